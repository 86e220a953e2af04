-- The limit holds whatever the spec catches.
local nn = require "nn"

local function forward(t)
  local text = "x"
  for i = 1, 100 do
    pcall(function() text = text .. text end)
  end
  error(#text <= 64 << 20 and "bounded" or "not bounded", 0)
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
