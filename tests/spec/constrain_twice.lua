-- Two placements of one tensor.
local nn = require "nn"

local function forward(t)
  local y = mp.constrain(nn.linear("fc", t.image, 10), { tp = "replicate" })
  mp.constrain(y, { tp = 2 })
  return { loss = mp.cross_entropy(y, t.label) }
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
