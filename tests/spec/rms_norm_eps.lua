local nn = require "nn"

local function forward(t)
  return { loss = mp.mean(nn.rms_norm("norm", t.x, { eps = "small" })) }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 6 } },
  batch = 8, optimizer = mp.sgd { lr = 1 },
}
