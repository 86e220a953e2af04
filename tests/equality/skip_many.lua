-- Eight blocks; the input, the first activation and a gate skip over several stages, and two losses read labels on
-- different stages.
local nn = require "nn"

local function forward(t)                            -- t.x f32[batch,16], t.y f32[batch,4], t.kind i32[batch]
  local first = nn.relu(nn.linear("b1", t.x, 16, { shard = "column" }))
  local gate = nn.softmax(nn.linear("b2", first, 16, { shard = "row" }))
  local h = nn.gelu(nn.linear("b3", first, 20, { shard = "column" }))
  h = nn.linear("b4", h, 16, { shard = "row" }) + t.x
  local early = nn.linear("early", h, 5)
  h = nn.relu(nn.linear("b5", h, 16)) * gate
  h = nn.relu(nn.linear("b6", h - first, 16, { shard = "row" }))
  local y = nn.linear("b7", h + t.x * gate, 4)
  local d = (y - t.y) / (1 + y * y)
  return {
    loss = { mp.cross_entropy(early, t.kind), mp.mean(d * d) * 0.5 },
    accuracy = mp.accuracy(early, t.kind),
    outputs = { early = early, y = y },
  }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 16 }, y = { "f32", 4 }, kind = { "i32" } },
  batch = 64, optimizer = mp.sgd { lr = 0.05, momentum = 0.9 },
}
