-- Weights that evaluations compute with, and no update touches.
local nn = require "nn"

local function forward(t)                            -- t.x f32[batch,16], t.kind i32[batch]
  local trained, left = nn.linear("trained", t.x, 8), nn.linear("left", t.x, 8)
  return { loss = mp.cross_entropy(trained, t.kind), accuracy = mp.accuracy(left, t.kind) }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 16 }, kind = { "i32" } },
  batch = 64, optimizer = mp.sgd { lr = 0.1 },
}
