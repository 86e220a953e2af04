-- Weights in which several dims stand for one: heads of units, with a bias of as many dims and without.
local function forward(t)                            -- t.x f32[batch,3,5], t.y f32[batch,3,4]
  local up = mp.parameter("up", { 2, 3, 4, 5 }, mp.normal(0, 0.5))
  local bias = mp.parameter("bias", { 2, 3, 4 }, mp.normal(0, 0.5))
  local last = mp.parameter("last", { 4, 24 }, mp.normal(0, 0.3))
  local pairs_of = mp.parameter("pairs_of", { 2, 2, 4 }, mp.normal(0, 0.5))
  local h = mp.tanh(mp.linear(t.x, up) + bias)       -- [batch,3,2,3,4]
  local d = mp.linear(mp.reshape(h, -1, 3, 24), last) - t.y
  local rows = mp.relu(mp.linear(mp.reshape(d, -1, 4), pairs_of)) -- [batch*3,2,2]
  return { loss = mp.mean(d * d) + mp.mean(rows * rows) + mp.mean(h) }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 3, 5 }, y = { "f32", 3, 4 } },
  batch = 8, microbatches = 2, optimizer = mp.sgd { lr = 1 },
}
