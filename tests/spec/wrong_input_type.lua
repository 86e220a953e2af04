-- An input type that does not exist.
local function forward(t)
  return { loss = mp.mean(t.image) }
end

return mp.program {
  forward = forward,
  data = mp.tensors { image = { "f16", 784 } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
