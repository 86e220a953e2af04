-- Nor can a coroutine.
local nn = require "nn"

local function forward(t)
  local function loop() while true do end end
  while true do coroutine.wrap(function() pcall(loop) end)() end
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
