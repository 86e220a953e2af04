-- run: --infer
-- Inference without outputs.
local nn = require "nn"

local function forward(t)
  return { loss = mp.cross_entropy(nn.linear("fc", t.image, 10), t.label) }
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
