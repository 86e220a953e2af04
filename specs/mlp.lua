-- Two-part MLP on 28 x 28 images (MNIST, Fashion-MNIST): the first two layers on one device, the rest on the next.
local nn = require "nn"

local width = mp.option("width", 1000, "units of the first hidden layer")
local lr = mp.option("lr", 0.01, "learning rate")
local momentum = mp.option("momentum", 0.0, "momentum of SGD")
local weight_decay = mp.option("weight_decay", 0.0, "weight decay of SGD")
local schedule = mp.option("schedule", "constant", "learning rate: constant, or linear decay to 0")

local function forward(t)                       -- t.image f32[batch,784], t.label i32[batch]
  local h = nn.relu(nn.linear("fc1", t.image, width, { shard = "column" }))
  h = nn.relu(nn.linear("fc2", h, 500, { shard = "row" }))
  mp.cut()                                      -- a stage boundary, when the mesh has a pp axis
  h = nn.relu(nn.linear("fc3", h, 200, { shard = "column" }))
  local logits = nn.linear("fc4", h, 10, { shard = "row" })
  return {
    loss = mp.cross_entropy(logits, t.label),   -- what training minimises
    accuracy = mp.accuracy(logits, t.label),    -- what evaluation reports
    outputs = { logits = logits },              -- what inference writes
  }
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 64, microbatches = 4, mesh = { pp = 2 },
  optimizer = mp.sgd { lr = lr, momentum = momentum, weight_decay = weight_decay, schedule = schedule },
}
