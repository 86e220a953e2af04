-- A weight that is the product of two parameters: a product of two activations, and gradients that pass through it.
local nn = require "nn"

local function forward(t)                            -- t.x f32[batch,16], t.y f32[batch,16]
  local h = nn.relu(nn.linear("first", t.x, 24))
  mp.cut()
  local narrow = mp.parameter("narrow", { 24, 4 }, mp.normal(0, 0.4))
  local wide = mp.parameter("wide", { 4, 16 }, mp.normal(0, 0.4))
  local y = mp.matmul(h, mp.matmul(narrow, wide))
  local d = y - t.y
  return { loss = mp.mean(d * d) + mp.mean(narrow * narrow), outputs = { y = y } }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 16 }, y = { "f32", 16 } },
  batch = 64, optimizer = mp.sgd { lr = 0.05 },
}
