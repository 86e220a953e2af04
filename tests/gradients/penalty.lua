-- An L2 penalty beside the loss of the data: it counts once a step, however many micro-batches and replicas there are.
local nn = require "nn"

local function forward(t)                            -- t.x f32[batch,5], t.label i32[batch]
  local first = mp.parameter("first", { 4, 5 }, mp.normal(0, 0.5))
  local last = mp.parameter("last", { 3, 4 }, mp.normal(0, 0.5))
  local free = mp.parameter("free", { 3 }, mp.normal(0, 1)) -- only in the penalty
  local logits = mp.linear(nn.gelu(mp.linear(t.x, first)), last)
  local penalty = mp.sum(first * first) + mp.sum(last * last)
  return { loss = { mp.cross_entropy(logits, t.label), 0.1 * penalty, mp.mean(free * free) } }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 5 }, label = { "i32" } },
  batch = 8, microbatches = 2, optimizer = mp.sgd { lr = 1 },
}
