-- Element-wise chains, broadcasting, reductions over dims, softmax and reshape, with cuts between them.
local nn = require "nn"

local function forward(t)                            -- t.x f32[batch,6,8], t.y f32[batch,12]
  local samples = t.x.shape[1]
  local gain = mp.parameter("gain", { 8 }, mp.uniform(0.5, 1.5))
  local shift = mp.parameter("shift", { 6, 8 }, mp.normal(0, 0.1))
  local h = nn.gelu((t.x - shift) * gain)
  h = nn.linear("inner", h, 10, { shard = "column" })
  h = nn.gelu(h, "tanh") / (2.5 + h * h)
  mp.cut()
  local means = mp.mean(h, -1)                       -- [batch,6]
  h = nn.softmax(nn.linear("outer", h, 8, { shard = "row" })) - shift / 2
  local rows = mp.sum(h, 2) / gain                   -- [batch,8]
  mp.cut()
  local wide = nn.relu(mp.reshape(h, { samples, 48 })) - 0.1
  local y = nn.linear("last", wide, 12) + nn.linear("side", -means * mp.mean(gain), 12, { bias = false })
  local d = y - t.y
  return { loss = mp.mean(d * d) + mp.scale(mp.mean(rows * rows), 0.125), outputs = { y = y, rows = rows } }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 6, 8 }, y = { "f32", 12 } },
  batch = 64, optimizer = mp.sgd { lr = 0.1 },
}
