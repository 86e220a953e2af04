-- Element-wise chains, broadcasting, reductions over dims, softmax and reshape, with cuts between them.
local nn = require "nn"

local function forward(t)                            -- t.x f32[batch,6,8], t.y f32[batch,12]
  local gain = mp.parameter("gain", { 8 }, mp.uniform(0.5, 1.5))
  local shift = mp.parameter("shift", { 6, 1 }, mp.normal(0, 0.1))
  local h = nn.gelu((t.x - shift) * gain, "erf")
  h = nn.linear("inner", h, 10, { shard = "column" })
  h = nn.gelu(h, "tanh") / (2.5 + mp.mul(h, h))
  mp.cut()
  h = nn.softmax(nn.linear("outer", h, 8, { shard = "row" })) - mp.mean(h, -1, true) * 0.5
  local rows = mp.sum(h, 2)                          -- [batch,8]
  local all = mp.reshape(h, { h.shape[1], 48 })
  mp.cut()
  local y = nn.linear("last", nn.relu(all) - 0.1, 12) + 0.25 * mp.mean(rows, 2, true)
  local d = y - t.y
  return { loss = mp.mean(d * d) + mp.scale(mp.mean(rows * rows), 0.125), outputs = { y = y, rows = rows } }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 6, 8 }, y = { "f32", 12 } },
  batch = 64, optimizer = mp.sgd { lr = 0.1 },
}
