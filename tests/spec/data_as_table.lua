-- Data that is not made by mp.idx or mp.tensors.
local function forward(t)
  return { loss = mp.mean(t.image) }
end

return mp.program {
  forward = forward,
  data = { image = { "f32", 784 } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
