-- A field that mp.program does not have.
local function forward(t)
  return { loss = mp.mean(t.image) }
end

return mp.program {
  forward = forward,
  data = mp.tensors { image = { "f32", 784 } },
  bacth = 8, optimizer = mp.sgd { lr = 0.1 },
}
