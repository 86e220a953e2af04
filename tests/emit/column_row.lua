-- run: --mesh dp=2,tp=2 --microbatches 1
-- keep: program_0.cu kernels.cu dump:spec dump:place
-- Two sharded layers: one all-reduce between them, gradients reduced in buckets, an element-wise chain as one kernel.
local nn = require "nn"

local function forward(t)
  local h = nn.gelu(nn.linear("up", t.x, 6, { shard = "column" }) * 2)
  local logits = nn.linear("down", h, 3, { shard = "row" })
  return { loss = mp.cross_entropy(logits, t.label), accuracy = mp.accuracy(logits, t.label), outputs = { logits = logits } }
end

return mp.program {
  forward = forward, data = mp.tensors { x = { "f32", 5 }, label = { "i32" } }, batch = 8,
  optimizer = mp.sgd { lr = 0.1, momentum = 0.9, weight_decay = 0.01 },
}
