-- A name that cannot be a name.
local nn = require "nn"

local function forward(t)
  return { loss = mp.mean(nn.linear("fc 1", t.image, 10)) }
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
