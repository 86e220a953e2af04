-- Parameters used more than once: twice in a block, in other stages, and in a penalty in the loss; a layer
-- without bias; momentum, weight decay and a warm-up.
local nn = require "nn"

local function forward(t)
  local h = nn.relu(nn.linear("first", t.image, 24, { bias = false, shard = "row" }))
  mp.cut()
  local twice
  h = mp.block("twice", function()
    twice = mp.parameter("weight", { 24, 24 }, mp.normal(0, 0.2))
    return h + nn.relu(mp.linear(nn.relu(mp.linear(h, twice)), twice))
  end)
  mp.cut()
  local scale = mp.parameter("scale", { 24 }, mp.normal(1, 0.1), { decay = false })
  h = nn.gelu(mp.linear(h, twice) * scale, "tanh") + h * scale
  mp.cut()
  h = mp.linear(h, twice)
  local logits = nn.linear("last", h, 10)
  local penalty = mp.sum(twice * twice) * 1e-3 + mp.mean(scale * scale)
  return {
    loss = { mp.cross_entropy(logits, t.label), penalty },
    accuracy = mp.accuracy(logits, t.label),
    outputs = { logits = logits },
  }
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 64, optimizer = mp.sgd { lr = 0.05, momentum = 0.8, weight_decay = 1e-2, schedule = "linear", warmup = 4 },
}
