local function forward(t)
  return { loss = mp.mean(mp.rope(t.x)) }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 2, 6 } },
  batch = 8, optimizer = mp.sgd { lr = 1 },
}
