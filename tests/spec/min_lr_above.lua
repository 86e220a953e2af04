-- The end of a schedule above its start.
local function forward(t)
  return { loss = mp.mean(t.image) }
end

return mp.program {
  forward = forward,
  data = mp.tensors { image = { "f32", 784 } },
  batch = 8, optimizer = mp.adamw { lr = 0.1, schedule = "linear", min_lr = 0.2 },
}
