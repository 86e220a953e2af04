-- Two layers without annotations.
local nn = require "nn"

local function forward(t)
  local h = nn.relu(nn.linear("first", t.x, 32))
  mp.cut()
  local y = nn.linear("second", h, 8)
  local d = y - t.y
  return { loss = mp.mean(d * d), outputs = { y = y } }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 16 }, y = { "f32", 8 } },
  batch = 64, optimizer = mp.sgd { lr = 0.1 },
}
