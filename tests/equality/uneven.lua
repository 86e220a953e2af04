-- Extents that tp does not divide: 10 classes sharded by columns into the loss, hidden widths 37 and 23, and a softmax
-- over a sharded dim; 5 stages of uneven cost.
local nn = require "nn"

local function forward(t)
  local h = nn.relu(nn.linear("first", t.image, 37, { shard = "column" }))
  h = nn.linear("second", h, 23, { shard = "row" })
  mp.cut()
  h = nn.gelu(nn.linear("third", h, 23, { shard = "column" }))
  mp.cut()
  local gate = nn.softmax(nn.linear("gate", h, 23, { shard = "column" }))
  mp.cut()
  h = nn.relu(nn.linear("fourth", h * gate, 19, { shard = "row", bias = false }))
  mp.cut()
  local logits = nn.linear("classes", h, 10, { shard = "column" })
  return {
    loss = mp.cross_entropy(logits, t.label),
    accuracy = mp.accuracy(logits, t.label),
    outputs = { logits = logits },
  }
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 64, optimizer = mp.sgd { lr = 0.05, momentum = 0.9, weight_decay = 1e-3 },
}
