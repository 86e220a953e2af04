-- A buffer is a tensor like others, but is not trained.
local nn = require "nn"

local function forward(t)                            -- t.image f32[8,6,5,4]
  local h = t.image * mp.buffer("scale", { 6, 5, 4 }, mp.constant(2))
  return { loss = mp.mean(h * h) }
end

return mp.program {
  forward = forward,
  data = mp.tensors { image = { "f32", 6, 5, 4 } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
