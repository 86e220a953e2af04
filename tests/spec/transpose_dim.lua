-- There is no such dim.
return mp.program {
  forward = function(t)
    return { loss = mp.mean(mp.transpose(t.x, 1, 3)) }
  end,
  data = mp.tensors { x = { "f32", 3 } }, batch = 8, optimizer = mp.sgd { lr = 1 },
}
