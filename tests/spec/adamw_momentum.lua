-- AdamW has no momentum.
local function forward(t)
  return { loss = mp.mean(t.image) }
end

return mp.program {
  forward = forward,
  data = mp.tensors { image = { "f32", 784 } },
  batch = 8, optimizer = mp.adamw { lr = 0.1, momentum = 0.9 },
}
