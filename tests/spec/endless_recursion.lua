-- A recursion without end.
local nn = require "nn"

local function forward(t)
  local function again(n) return 1 + again(n + 1) end
  again(1)
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
