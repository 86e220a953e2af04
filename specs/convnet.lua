-- Three-part convolutional network: a device for each of its two convolutions, and one for the classifier.
local nn = require "nn"

local channels = mp.option("channels", 3, "channels of an image")
local image = mp.option("image", 224, "height and width of an image")
local width = mp.option("width", 128, "channels of the first convolution; the second has twice as many")
local lr = mp.option("lr", 0.01, "learning rate")
local momentum = mp.option("momentum", 0.0, "momentum of SGD")
local weight_decay = mp.option("weight_decay", 0.0, "weight decay of SGD")
local schedule = mp.option("schedule", "constant", "learning rate: constant, or linear decay to 0")

local function forward(t)                       -- t.image f32[batch,3,224,224], t.label i32[batch]
  local h = nn.conv2d("conv1", t.image, width, 3, { padding = 1, shard = "column" })
  h = nn.relu(nn.batch_norm2d("bn1", h, { shard = true }))
  mp.cut()                                      -- a stage boundary, when the mesh has a pp axis
  h = nn.conv2d("conv2", h, 2 * width, 3, { padding = 1, shard = "row" })
  h = nn.relu(nn.batch_norm2d("bn2", h))
  mp.cut()
  h = nn.flatten(nn.adaptive_avg_pool2d(h, 1))
  local logits = nn.linear("fc", h, 10)
  return {
    loss = mp.cross_entropy(logits, t.label),   -- what training minimises
    accuracy = mp.accuracy(logits, t.label),    -- what evaluation reports
    outputs = { logits = logits },              -- what inference writes
  }
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", channels, image, image }, label = { "i32" } },
  batch = 16, microbatches = 4, mesh = { pp = 3 },
  optimizer = mp.sgd { lr = lr, momentum = momentum, weight_decay = weight_decay, schedule = schedule },
}
