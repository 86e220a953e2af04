-- Finalizers would run outside of every limit.
local nn = require "nn"

local function forward(t)
  setmetatable({}, { __gc = function() while true do end end })
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
