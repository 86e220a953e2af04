return mp.program {
  forward = function(t)
    local weight = mp.parameter("head.weight", { 10, 4 }, mp.zeros)
    return { loss = mp.linear_cross_entropy(t.x, weight, t.label, { chunk = 2 }) }
  end,
  data = mp.tensors { x = { "f32", 4 }, label = { "i32" } }, batch = 16, optimizer = mp.sgd { lr = 1 },
}
