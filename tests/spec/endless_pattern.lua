-- A pattern that takes years: no hook runs inside of it, the deadline ends it.
local nn = require "nn"

local function forward(t)
  local found = ("a"):rep(30000):find((".-"):rep(6) .. "b")
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
