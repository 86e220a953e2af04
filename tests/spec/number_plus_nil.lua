-- An error of Lua itself in plain arithmetic.
local nn = require "nn"

local function forward(t)
  local width
  return { loss = mp.mean(nn.linear("fc", t.image, 2 * width)) }
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
