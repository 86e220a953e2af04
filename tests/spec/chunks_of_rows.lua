-- Chunks are equal parts of the rows that a device has in a micro-batch.
return mp.program {
  forward = function(t)
    local weight = mp.parameter("head.weight", { 10, 4 }, mp.zeros)
    return { loss = mp.linear_cross_entropy(t.x, weight, t.label, { chunks = 5 }) }
  end,
  data = mp.tensors { x = { "f32", 3, 4 }, label = { "i32", 3 } }, batch = 16, microbatches = 2, mesh = { dp = 2 },
  optimizer = mp.sgd { lr = 1 },
}
