-- A layer that only an output uses: it is part of every checkpoint all the same, and keeps its initial values.
local nn = require "nn"
local function forward(t)
  local h = nn.relu(nn.linear("a", t.x, 8, {shard="column"}))
  mp.cut()
  local side = nn.linear("side", h, 4)
  local y = nn.linear("b", h, 3, {shard="row"})
  return { loss = mp.cross_entropy(y, t.label), outputs = { side = side } }
end
return mp.program { forward = forward, data = mp.tensors { x = { "f32", 6 }, label = { "i32" } }, batch = 8, microbatches=2, optimizer = mp.sgd { lr = 0.1, momentum=0.9 } }
