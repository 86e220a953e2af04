local function forward(t)
  return { loss = mp.mean(mp.swiglu(t.x)) }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 3, 8 } },
  batch = 8, optimizer = mp.sgd { lr = 1 },
}
