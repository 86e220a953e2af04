-- An operand that is nil.
local nn = require "nn"

local function forward(t)
  local y = mp.add(t.image, nil)
  return { loss = mp.mean(y) }
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
