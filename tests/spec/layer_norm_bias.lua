local function forward(t)
  return { loss = mp.mean(mp.layer_norm(t.x, mp.parameter("w", { 6 }, mp.zeros), mp.parameter("b", { 2, 6 }, mp.zeros))) }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 2, 6 } },
  batch = 8, optimizer = mp.sgd { lr = 1 },
}
