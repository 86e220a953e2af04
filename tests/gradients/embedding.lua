-- Looked-up rows of a table that also makes the logits, positions from a table of their own, ids with samples first and last;
-- a sequence with its samples as the second dim; exchanged dims, adjacent and apart.
local nn = require "nn"

local function forward(t)                            -- t.x i32[batch,5], t.kind i32[batch], t.y i32[batch,5]
  local ids = mp.transpose(t.x, 1, 2)                -- [5,batch]
  local h, table = nn.embedding("token", ids, 7, 6)  -- [5,batch,6]
  local side = nn.embedding("kind", t.kind, 4, 3)    -- [batch,3]
  local positions = mp.parameter("position", { 5, 6 }, mp.normal(0, 1))
  h = mp.tanh(h + mp.expand(positions, 2, t.x.shape[1]))
  mp.cut()
  local logits = mp.linear(nn.linear("mixed", h, 6), table)            -- [5,batch,7]
  local flat = mp.flatten(mp.transpose(h, 1, 3) * mp.transpose(mp.transpose(mp.transpose(h, 2, 3), 1, 2), 2, 3)) -- [6,batch*5]
  return {
    loss = mp.cross_entropy(logits, mp.transpose(t.y, -1, 1)) + 0.3 * mp.mean(flat * flat) + mp.mean(side * side),
    outputs = { logits = mp.transpose(logits, 1, 2) },
  }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "i32", 5 }, y = { "i32", 5 }, kind = { "i32" } },
  batch = 8, microbatches = 2, optimizer = mp.sgd { lr = 1 },
}
