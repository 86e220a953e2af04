-- swiglu of activations and of weights alone, and of what another one gave.
local nn = require "nn"

local function forward(t)                            -- t.x f32[batch,2,2,6], t.y f32[batch,3]
  local h = mp.swiglu(t.x * mp.parameter("gain", { 2, 2, 6 }, mp.normal(1, 0.5)))       -- [batch,2,6]
  h = h * mp.swiglu(mp.parameter("table", { 2, 6 }, mp.normal(0, 2)))
  mp.cut()
  local y = mp.swiglu(mp.reshape(mp.sum(h, 2), -1, 2, 3))
  return { loss = 10 * nn.mse(y, t.y) }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 2, 2, 6 }, y = { "f32", 3 } },
  batch = 8, microbatches = 2, optimizer = mp.sgd { lr = 1 },
}
