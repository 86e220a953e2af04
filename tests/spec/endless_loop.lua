-- A loop that does not end.
local nn = require "nn"

local function forward(t)
  while true do end
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
