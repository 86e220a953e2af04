-- load takes text only.
local nn = require "nn"

local function forward(t)
  local ok, message = load("\27Lua")
  error(message, 1)
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
