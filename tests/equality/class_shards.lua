-- The smallest model whose classes are sharded: on one micro-batch its logits go from columns to rows.
local nn = require "nn"

local function forward(t)
  local logits = nn.linear("classes", t.x, 10, { shard = "column" })
  return { loss = mp.cross_entropy(logits, t.label), outputs = { logits = logits } }
end

return mp.program {
  forward = forward, data = mp.tensors { x = { "f32", 4 }, label = { "i32" } }, batch = 64, mesh = {},
  optimizer = mp.sgd { lr = 0.1 },
}
