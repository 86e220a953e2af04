-- adaptive_avg_pool2d: to one pixel, to sizes that divide the image and that do not, to its own and to a larger one.
local nn = require "nn"

local function forward(t)                            -- t.x f32[batch,2,7,6]
  local h = t.x * mp.parameter("gain", { 2, 7, 6 }, mp.normal(1, 0.5))
  h = h + mp.parameter("shift", { 2, 7, 6 }, mp.normal(0, 1))
  local losses = {}
  for i, size in ipairs { 1, { 1, 3 }, { 3, 4 }, 5, { 7, 6 }, { 8, 9 } } do
    local y = nn.adaptive_avg_pool2d(h, size)
    losses[i] = mp.mean(y * y * i)
  end
  return { loss = losses }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 2, 7, 6 } },
  batch = 8, microbatches = 2, optimizer = mp.sgd { lr = 1 },
}
