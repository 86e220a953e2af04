-- The gradient of the weight is summed over chunks in full precision, where gradients of parameters lie.
return mp.program {
  forward = function(t)
    local weight = mp.scale(mp.parameter("head.weight", { 10, 4 }, mp.zeros), 2)
    return { loss = mp.linear_cross_entropy(t.x, weight, t.label, { chunks = 2 }) }
  end,
  data = mp.tensors { x = { "f32", 4 }, label = { "i32" } }, batch = 16, optimizer = mp.sgd { lr = 1 },
}
