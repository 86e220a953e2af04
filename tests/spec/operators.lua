-- Numbers and tensors in arithmetic.
local nn = require "nn"

local function forward(t)
  local x = t.image
  local y = (1 - x) * 2 + x / 4 - 3 / (-x)
  return { loss = mp.mean(y - 0.5) }
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
