-- An error that the spec raises, blamed on the caller.
local nn = require "nn"

local function forward(t)
  local function check(x)
    error("the image is too small", 2)
  end
  check(t.image)
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
