-- A buffer of whole numbers cannot be computed with.
local nn = require "nn"

local function forward(t)
  return { loss = mp.mean(t.image + mp.buffer("counts", { 4 }, mp.zeros, { type = "i32" })) }
end

return mp.program {
  forward = forward,
  data = mp.tensors { image = { "f32", 6, 5, 4 } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
