-- run: --mesh dp=2,tp=2 --microbatches 2
-- keep: program_0.cu
-- The same where tp shares out the classes: each chunk gathers what devices know of its rows. The gradient of the head is whole
-- before the backward pass begins, and reduced there over replicas.
local nn = require "nn"

local function forward(t)                            -- t.x f32[batch,8], t.label i32[batch]
  local h = nn.gelu(nn.linear("up", t.x, 12))
  local head = mp.parameter("head.weight", { 40, 12 }, mp.normal(0, 0.1), { shard = 1 })
  return { loss = mp.linear_cross_entropy(h, head, t.label, { chunks = 4, classes = 37 }) }
end

return mp.program {
  forward = forward, data = mp.tensors { x = { "f32", 8 }, label = { "i32" } }, batch = 32, optimizer = mp.sgd { lr = 0.1 },
}
