-- run: --infer
-- An output whose outermost dim is not the batch.
local nn = require "nn"

local function forward(t)
  local logits = nn.linear("fc", t.image, 10)
  return { outputs = { mean = mp.mean(logits, 1) } }
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
