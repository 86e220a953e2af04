-- A batch norm without its counter.
local nn = require "nn"

local function forward(t)                            -- t.image f32[8,6,5,4]
  local h = mp.batch_norm2d(t.image, { weight = mp.parameter("w", { 6 }, mp.zeros), bias = mp.parameter("b", { 6 }, mp.zeros),
    running_mean = mp.buffer("m", { 6 }, mp.zeros), running_var = mp.buffer("v", { 6 }, mp.zeros) })
  return { loss = mp.mean(h * h) }
end

return mp.program {
  forward = forward,
  data = mp.tensors { image = { "f32", 6, 5, 4 } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
