-- A dim that the tensor does not have.
local nn = require "nn"

local function forward(t)
  return { loss = mp.mean(mp.constrain(t.image, { tp = 3 })) }
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
