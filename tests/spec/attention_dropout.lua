local function forward(t)
  return { loss = mp.mean(mp.attention(t.qkv, { dropout = 1 })) }
end

return mp.program {
  forward = forward,
  data = mp.tensors { qkv = { "f32", 5, 2, 3, 8 } },
  batch = 8, optimizer = mp.sgd { lr = 1 },
}
