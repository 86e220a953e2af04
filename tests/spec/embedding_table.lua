-- A table has rows and columns.
return mp.program {
  forward = function(t)
    return { loss = mp.mean(mp.embedding(t.x, mp.parameter("table", { 10 }, mp.zeros))) }
  end,
  data = mp.tensors { x = { "i32", 3 } }, batch = 8, optimizer = mp.sgd { lr = 1 },
}
