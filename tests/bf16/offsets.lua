-- A large parameter that is added, between two products of its block: a gradient in full precision between two that may be rounded.
local nn = require "nn"

local function forward(t)                            -- t.x f32[batch,600,16], t.y f32[batch,600,4]
  local h = nn.linear("first", t.x, 512)
  local offset = mp.parameter("offset", { 600, 512 }, mp.normal(0, 0.2))
  local y = nn.linear("last", nn.relu(h + offset), 4)
  local d = y - t.y
  return { loss = mp.mean(d * d), outputs = { y = y } }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 600, 16 }, y = { "f32", 600, 4 } },
  batch = 4, optimizer = mp.sgd { lr = 0.1 },
}
