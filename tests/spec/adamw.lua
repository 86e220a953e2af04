-- AdamW with everything said.
local function forward(t)
  local w = mp.parameter("w", { 4 }, mp.normal(0, 1))
  return { loss = mp.mean(t.x * w) }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 4 } },
  batch = 8,
  optimizer = mp.adamw {
    lr = 0.1, betas = { 0.8, 0.95 }, eps = 1e-6, weight_decay = 0.2, schedule = "cosine", warmup = 3, min_lr = 0.01, clip = 1,
  },
}
