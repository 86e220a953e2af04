-- Parameters used more than once: twice in a row, in both operands of an op, in two layers, across a cut (two devices
-- on a mesh with pp = 2), and in a penalty.
local nn = require "nn"

local function forward(t)                            -- t.x f32[batch,6], t.y f32[batch,6]
  local weight = mp.parameter("weight", { 6, 6 }, mp.normal(0, 0.4))
  local row = mp.parameter("row", { 6 }, mp.normal(0.5, 0.3))
  local h = nn.gelu(mp.linear(mp.linear(t.x, weight), weight) + row) * row
  mp.cut()
  h = nn.gelu(nn.linear("layer", h, 6, { weight = weight, bias = row })) + h
  local d = mp.matmul(h, weight) - t.y * row
  return { loss = mp.mean(d * d) + 0.05 * mp.sum(weight * weight) }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 6 }, y = { "f32", 6 } },
  batch = 8, microbatches = 2, optimizer = mp.sgd { lr = 1 },
}
