-- statistics of one value
local nn = require "nn"
local function forward(t)
  local h = nn.batch_norm2d("norm", nn.adaptive_avg_pool2d(nn.conv2d("conv", t.image, 6, 3), 1))
  local logits = nn.linear("fc", nn.flatten(h), 10)
  return { loss = mp.cross_entropy(logits, t.label) }
end

return mp.program {
  forward = forward,
  data = mp.tensors { image = { "f32", 4, 8, 8 }, label = { "i32" } },
  batch = 4, microbatches = 4, optimizer = mp.sgd { lr = 0.1 },
}
