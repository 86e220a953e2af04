-- Reductions and shapes.
local nn = require "nn"

local function forward(t)
  local x = mp.reshape(t.image, { 8, 28, -1 })
  local a = mp.sum(x, { 2, 3 })
  local b = mp.mean(x, -1)
  local c = mp.flatten(mp.softmax(mp.gelu(x, "tanh")))
  local d = mp.flatten(mp.gelu(c, "erf"))
  return { loss = mp.mean(a) + mp.sum(b) + mp.mean(d) }
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
