-- run: --mesh 1 --microbatches 2
-- keep: program_0.cu
-- A head whose logits are made for a quarter of the rows at a time: the loop over chunks, with the loss and both gradients in it.
local nn = require "nn"

local function forward(t)                            -- t.x f32[batch,8], t.label i32[batch]
  local h = nn.gelu(nn.linear("up", t.x, 12))
  local head = mp.parameter("head.weight", { 40, 12 }, mp.normal(0, 0.1), { shard = 1 })
  return { loss = mp.linear_cross_entropy(h, head, t.label, { chunks = 4, classes = 37 }) }
end

return mp.program {
  forward = forward, data = mp.tensors { x = { "f32", 8 }, label = { "i32" } }, batch = 32, optimizer = mp.sgd { lr = 0.1 },
}
