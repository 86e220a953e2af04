-- max_pool2d: windows apart, over each other and with gaps, at the border, of odd images, and of what another gave.
local nn = require "nn"

local function forward(t)                            -- t.x f32[batch,2,7,5]
  local h = t.x * mp.parameter("gain", { 2, 7, 5 }, mp.normal(1, 0.5))
  h = h + mp.parameter("shift", { 2, 7, 5 }, mp.normal(0, 1))
  local terms = {
    nn.max_pool2d(h, 2), nn.max_pool2d(h, 3, { stride = 2, padding = 1 }),
    nn.max_pool2d(h, { 2, 3 }, { stride = { 1, 2 }, padding = { 1, 0 }, dilation = { 3, 1 } }),
    nn.max_pool2d(h, 2, { stride = 3 }), nn.max_pool2d(nn.max_pool2d(h, 3, { stride = 1, padding = 1 }), { 7, 5 }),
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
