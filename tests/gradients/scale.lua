-- scale: products with numbers, quotients by numbers, and negation.
local function forward(t)                            -- t.x f32[batch,4]
  local a = mp.parameter("a", { 4 }, mp.normal(0, 0.7))
  local b = mp.parameter("b", { 4 }, mp.normal(0, 0.7))
  local h = 3 * (t.x * a) / 7 - mp.scale(b, -1.25)
  h = -h * 0.5
  return { loss = mp.mean(h * h * h) * 2 - mp.sum(-b * b) / 4 }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 4 } },
  batch = 8, microbatches = 2, optimizer = mp.sgd { lr = 1 },
}
