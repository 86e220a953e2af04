-- config.json holds no functions.
return mp.program {
  forward = function(t) return { loss = mp.mean(t.x) } end,
  data = mp.tensors { x = { "f32", 6 } }, batch = 8, optimizer = mp.sgd { lr = 0.1 },
  config = { model_type = "gpt2", layers = { 1, 2, print } },
}
