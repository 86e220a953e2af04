-- AdamW without a learning rate.
local function forward(t)
  return { loss = mp.mean(t.image) }
end

return mp.program {
  forward = forward,
  data = mp.tensors { image = { "f32", 784 } },
  batch = 8, optimizer = mp.adamw { eps = 1e-8 },
}
