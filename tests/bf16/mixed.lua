-- Tensors of both types side by side: parameters that are reshaped before their use, also as a bias behind a product, an
-- input that several layers of a block read, and means of activations in the loss.
local nn = require "nn"

local function forward(t)                            -- t.x f32[batch,16], t.y f32[batch,24]
  local w = mp.reshape(mp.parameter("w", { 4, 6, 16 }, mp.normal(0, 0.2)), { 24, 16 })
  local b = mp.reshape(mp.parameter("b", { 4, 6 }, mp.normal(0, 0.2)), { 24 })
  local h = mp.linear(t.x, w) + b
  h = nn.gelu(h) + nn.linear("beside", t.x, 24)
  local small = mp.mean(h * h) * 0.1
  mp.cut()
  local y = nn.linear("last", nn.relu(h), 24) - nn.linear("skip", t.x, 24)
  local d = y - t.y
  return { loss = mp.mean(d * d) + small, outputs = { y = y } }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 16 }, y = { "f32", 24 } },
  batch = 64, optimizer = mp.sgd { lr = 0.1 },
}
