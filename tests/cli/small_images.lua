-- Images of 20 x 20: those of Fashion-MNIST do not fit.
local nn = require "nn"

local function forward(t)
  return { loss = mp.cross_entropy(nn.linear("only", t.image, 10), t.label) }
end

return mp.program {
  forward = forward, data = mp.idx { image = { "f32", 400 }, label = { "i32" } }, batch = 8, mesh = {},
  optimizer = mp.sgd { lr = 0.1 },
}
