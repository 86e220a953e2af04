-- string.dump makes binary chunks.
local nn = require "nn"

local function forward(t)
  string.dump(forward)
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
