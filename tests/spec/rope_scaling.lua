local function forward(t)
  return { loss = mp.mean(mp.rope(t.x, { scaling = { factor = 8, low_freq_factor = 4, high_freq_factor = 4, original = 8192 } })) }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 1, 2, 3, 4 } },
  batch = 8, optimizer = mp.sgd { lr = 1 },
}
