-- Looked-up ids, a head that is the table of tokens, labels of which some are ignored and columns that no label has; positions
-- outermost.
local nn = require "nn"

local function forward(t)                            -- t.x i32[batch,6], t.y i32[batch,6], both below 9
  local h, table = nn.embedding("token", mp.transpose(t.x, 1, 2), 12, 8, { shard = "vocab" })
  h = nn.tanh(nn.linear("mixed", h, 8))
  local logits, label = mp.linear(h, table), mp.transpose(t.y, 1, 2)
  return {
    loss = mp.cross_entropy(logits, label, { classes = 9 }),
    accuracy = mp.accuracy(logits, label, { classes = 9 }),
    outputs = { logits = mp.transpose(logits, 1, 2) },
  }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "i32", 6 }, y = { "i32", 6 } },
  batch = 64, optimizer = mp.sgd { lr = 0.5, momentum = 0.5 },
}
