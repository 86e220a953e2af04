-- AdamW with clipping and a cosine: a weight that several stages share, sharded layers whose widths do not divide, with
-- decay and without, and a parameter that the loss does not reach.
local nn = require "nn"
local clip = mp.option("clip", 0.3, "the norm that gradients are clipped to")
local optimizer = mp.option("optimizer", "adamw", "adamw or sgd")

local function forward(t)
  local h = nn.relu(nn.linear("first", t.image, 41, { shard = "column" }))
  h = nn.relu(nn.linear("second", h, 24, { shard = "row" }))
  mp.cut()
  local shared = mp.parameter("shared.weight", { 24, 24 }, mp.normal(0, 0.2))
  h = nn.relu(mp.linear(h, shared)) + h
  mp.cut()
  h = nn.relu(nn.linear("third", h, 300, { shard = "column" }))
  h = nn.linear("fourth", h, 24, { bias = false, shard = "row" })
  mp.cut()
  h = nn.gelu(mp.linear(h, shared) * mp.parameter("scale", { 24 }, mp.normal(1, 0.1), { decay = false }), "tanh")
  local logits = nn.linear("last", h, 10)
  local unused = nn.linear("unused", h, 3)
  return {
    loss = mp.cross_entropy(logits, t.label),
    accuracy = mp.accuracy(logits, t.label),
    outputs = { logits = logits, unused = unused },
  }
end

local common = { lr = 0.005, weight_decay = 0.1, schedule = "cosine", warmup = 5, min_lr = 0.0005, clip = clip }
if optimizer == "sgd" then
  common.momentum = 0.9
else
  common.betas = { 0.9, 0.95 }
  common.eps = 1e-6
end
return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 64, optimizer = optimizer == "sgd" and mp.sgd(common) or mp.adamw(common),
}
