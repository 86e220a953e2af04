-- a trained running mean
local nn = require "nn"
local function forward(t)
  local c = mp.parameter("c", { 4 }, mp.zeros)
  local h = mp.batch_norm2d(t.image, { weight = c, bias = c, running_mean = c, running_var = c, num_batches_tracked = c })
  local logits = nn.linear("fc", nn.flatten(h), 10)
  return { loss = mp.cross_entropy(logits, t.label) }
end

return mp.program {
  forward = forward,
  data = mp.tensors { image = { "f32", 4, 8, 8 }, label = { "i32" } },
  batch = 4, optimizer = mp.sgd { lr = 0.1 },
}
