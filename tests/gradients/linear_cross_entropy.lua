-- Heads whose logits are made chunk by chunk: a label a sample and a label a position, some of them ignored; a weight that is also
-- looked up; two losses of different counts, one of them scaled; a width that no 16 bytes divide; classes that are padding.
local nn = require "nn"

local function forward(t)                            -- t.x i32[batch,5], t.kind i32[batch], t.token i32[batch,5]
  local ids = mp.transpose(t.x, 1, 2)                -- [5,batch]
  local h, table = nn.embedding("token", ids, 7, 5)  -- [5,batch,5]
  h = nn.linear("mixed", mp.tanh(h), 5)
  local kinds = nn.linear("flat", mp.flatten(mp.transpose(h, 1, 2)), 3)
  local kind = mp.parameter("kind.weight", { 4, 3 }, mp.normal(0, 1))
  mp.cut()
  local whole = mp.linear_cross_entropy(h, table, mp.transpose(t.token, 1, 2), { chunks = 5, classes = 6 })
  return { loss = 0.7 * whole + mp.linear_cross_entropy(kinds, kind, t.kind, { chunks = 2 }) + 0.1 * mp.mean(h * h) }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "i32", 5 }, kind = { "i32" }, token = { "i32", 5 } },
  batch = 8, microbatches = 2, optimizer = mp.sgd { lr = 1 },
}
