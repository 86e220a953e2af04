-- The same where the filters are given.
local nn = require "nn"

local function forward(t)                            -- t.image f32[8,6,5,4]
  local h = mp.conv2d(t.image, mp.parameter("w", { 6, 2, 3, 3 }, mp.zeros), { groups = 4 })
  return { loss = mp.mean(h * h) }
end

return mp.program {
  forward = forward,
  data = mp.tensors { image = { "f32", 6, 5, 4 } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
