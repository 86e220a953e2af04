-- A shape with another number of elements.
local nn = require "nn"

local function forward(t)
  return { loss = mp.mean(mp.reshape(t.image, 8, 28, -1, 27)) }
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
