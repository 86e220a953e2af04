-- A matrix product whose inner dims differ: the message names the line of the spec.
local nn = require "nn"

local function forward(t)
  local w = mp.parameter("w", { 785, 10 }, mp.zeros)
  return { loss = mp.cross_entropy(mp.matmul(t.image, w), t.label) }
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
