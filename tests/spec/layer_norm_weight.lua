local function forward(t)
  return { loss = mp.mean(mp.layer_norm(t.x, mp.parameter("w", { 5 }, mp.zeros))) }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 6 } },
  batch = 8, optimizer = mp.sgd { lr = 1 },
}
