-- Activations with several users: on both sides of two cuts, in one op twice, and some that the loss does not reach.
local nn = require "nn"

local function forward(t)                            -- t.x f32[batch,4], t.label i32[batch]
  local h = nn.linear("first", t.x, 5)
  local a = nn.softmax(h)
  local b = nn.gelu(h) * h + h * a
  mp.cut()
  local side = nn.linear("unreached", b, 2)          -- only an output: its weights keep their values
  local c = nn.linear("second", b, 5) + a
  mp.cut()
  local logits = nn.linear("third", c * h - b / (2 + a), 5) + a
  return { loss = mp.cross_entropy(logits, t.label) + mp.mean(c * c), outputs = { side = side, logits = logits } }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 4 }, label = { "i32" } },
  batch = 8, microbatches = 2, optimizer = mp.sgd { lr = 1 },
}
