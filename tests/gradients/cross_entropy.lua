-- cross_entropy: a label a sample and a label a position, some of them ignored; two losses of different counts, one
-- of them scaled; logits that also go elsewhere.
local nn = require "nn"

local function forward(t)                            -- t.x f32[batch,3,5], t.kind i32[batch], t.token i32[batch,3]
  local h = nn.linear("first", t.x, 6)
  local tokens = nn.linear("token", h, 4)            -- [batch,3,4]
  local kinds = nn.linear("kind", mp.flatten(h), 7)
  return {
    loss = mp.cross_entropy(kinds, t.kind) + 0.7 * mp.cross_entropy(tokens, t.token) + 0.1 * mp.mean(tokens * tokens),
    accuracy = mp.accuracy(kinds, t.kind),
  }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 3, 5 }, kind = { "i32" }, token = { "i32", 3 } },
  batch = 8, microbatches = 2, optimizer = mp.sgd { lr = 1 },
}
