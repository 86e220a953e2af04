local nn = require "nn"

local function forward(t)
  return { loss = mp.mean(nn.layer_norm("norm", t.x, { eps = 0 })) }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 6 } },
  batch = 8, optimizer = mp.sgd { lr = 1 },
}
