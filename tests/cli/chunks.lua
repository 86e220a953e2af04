-- Losses that a head in chunks cannot have, for cases here: as a metric alone, and multiplied by what is computed beside it.
local kind = mp.option("kind", "metric", "metric or weighted")

local function forward(t)
  local loss = mp.linear_cross_entropy(t.x, mp.parameter("head.weight", { 10, 4 }, mp.normal(0, 1)), t.label, { chunks = 2 })
  local other = mp.cross_entropy(mp.linear(t.x, mp.parameter("weight", { 10, 4 }, mp.normal(0, 1))), t.label)
  if kind == "metric" then return { loss = other, accuracy = loss } end
  return { loss = loss * other }
end

return mp.program { forward = forward, data = mp.tensors { x = { "f32", 4 }, label = { "i32" } }, batch = 16, optimizer = mp.sgd { lr = 1 } }
