-- matmul: activations with leading dims times weights, weights times weights, and a weight times itself.
local function forward(t)                            -- t.x f32[batch,3,5], t.y f32[batch,3,4]
  local first = mp.parameter("first", { 5, 6 }, mp.normal(0, 0.5))
  local left = mp.parameter("left", { 6, 2 }, mp.normal(0, 0.8))
  local right = mp.parameter("right", { 2, 4 }, mp.normal(0, 0.8))
  local square = mp.parameter("square", { 4, 4 }, mp.normal(0, 0.6))
  local h = mp.matmul(mp.matmul(t.x, first), mp.matmul(left, right))
  local d = mp.matmul(h, mp.matmul(square, square)) - t.y
  return { loss = mp.mean(d * d) }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 3, 5 }, y = { "f32", 3, 4 } },
  batch = 8, microbatches = 2, optimizer = mp.sgd { lr = 1 },
}
