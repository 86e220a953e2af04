-- avg_pool2d: windows apart and over each other, with a border that counts and one that does not, of odd images.
local nn = require "nn"

local function forward(t)                            -- t.x f32[batch,2,7,5]
  local h = t.x * mp.parameter("gain", { 2, 7, 5 }, mp.normal(1, 0.5))
  h = h + mp.parameter("shift", { 2, 7, 5 }, mp.normal(0, 1))
  local terms = {
    nn.avg_pool2d(h, 2), nn.avg_pool2d(h, 3, { stride = 2, padding = 1 }),
    nn.avg_pool2d(h, { 3, 4 }, { stride = { 1, 3 }, padding = { 1, 2 }, count_include_pad = false }),
    nn.avg_pool2d(h, 2, { stride = 3 }), nn.avg_pool2d(nn.avg_pool2d(h, 3, { stride = 1, padding = 1 }), { 7, 5 }),
  }
  local losses = {}
  for i, y in ipairs(terms) do
    losses[i] = mp.mean(y * y * i)
  end
  return { loss = losses }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 2, 7, 5 } },
  batch = 8, microbatches = 2, optimizer = mp.sgd { lr = 1 },
}
