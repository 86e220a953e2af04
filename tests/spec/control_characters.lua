-- A message cannot repaint the terminal.
local nn = require "nn"

local function forward(t)
  error("red: \27[31m\n\8bell\7 \u{202e}", 0)
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
