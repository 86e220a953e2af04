-- linear, which multiplies by the transposed weight: with two and with three dims, of activations and of weights.
local nn = require "nn"

local function forward(t)                            -- t.x f32[batch,3,5], t.y f32[batch,4]
  local rows = mp.parameter("rows", { 4, 5 }, mp.normal(0, 0.5))
  local mixed = mp.parameter("mixed", { 6, 5 }, mp.normal(0, 0.5))
  local cube = mp.parameter("cube", { 2, 3, 5 }, mp.normal(0, 0.5))
  local h = nn.linear("first", t.x, 6)               -- [batch,3,6]
  local weight = mp.linear(rows, mixed)              -- [4,6]
  local d = nn.linear("last", mp.flatten(mp.linear(h, weight)), 4) - t.y
  local side = mp.linear(cube, rows)                 -- [2,3,4]
  return { loss = mp.mean(d * d) + mp.mean(side * side) }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 3, 5 }, y = { "f32", 4 } },
  batch = 8, microbatches = 2, optimizer = mp.sgd { lr = 1 },
}
