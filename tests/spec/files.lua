-- Calls that reach outside.
local nn = require "nn"

local function forward(t)
  pcall(function() io.open("/etc/passwd") end)
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
