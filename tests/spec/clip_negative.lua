-- A limit of the norm below zero.
local function forward(t)
  return { loss = mp.mean(t.image) }
end

return mp.program {
  forward = forward,
  data = mp.tensors { image = { "f32", 784 } },
  batch = 8, optimizer = mp.sgd { lr = 0.1, clip = -1 },
}
