-- Filters that read other channels than the image has.
local nn = require "nn"

local function forward(t)                            -- t.image f32[8,6,5,4]
  local h = mp.conv2d(t.image, mp.parameter("w", { 6, 5, 3, 3 }, mp.zeros))
  return { loss = mp.mean(h * h) }
end

return mp.program {
  forward = forward,
  data = mp.tensors { image = { "f32", 6, 5, 4 } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
