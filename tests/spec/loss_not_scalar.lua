-- A loss with a value for each sample.
local nn = require "nn"

local function forward(t)
  return { loss = mp.sum(nn.linear("fc", t.image, 10), 2) }
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
