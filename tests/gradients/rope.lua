-- rope: samples in the place of positions, so that micro-batches and replicas begin at others than 0, of one and two
-- queries a group; with stretched frequencies; turned twice; of weights alone.
local nn = require "nn"

local function forward(t)                            -- t.x f32[batch,2,3,4,6], t.y of the same shape
  local x = t.x * mp.parameter("gain", { 2, 3, 4, 6 }, mp.normal(1, 0.5))
  local scaling = { factor = 4, low_freq_factor = 1, high_freq_factor = 3, original = 16 }
  local once = mp.rope(x, { theta = 50 })
  mp.cut()
  local twice = mp.rope(once * t.x, { theta = 9, scaling = scaling })
  local table = mp.rope(mp.parameter("table", { 5, 1, 2, 3, 4 }, mp.normal(0, 1)))
  return { loss = { nn.mse(twice * once, t.y), mp.mean(nn.tanh(table)) } }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 2, 3, 4, 6 }, y = { "f32", 2, 3, 4, 6 } },
  batch = 8, microbatches = 2, optimizer = mp.sgd { lr = 1 },
}
