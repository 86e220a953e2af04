-- Two inputs that meet, and two losses that are summed.
local nn = require "nn"

local function forward(t)
  local h = nn.relu(nn.linear("left", t.left, 16)) + nn.relu(nn.linear("right", t.right, 16))
  mp.cut()
  local kind, value = nn.linear("kind", h, 3), nn.linear("value", h, 1)
  local difference = value - t.value
  return {
    loss = { mp.cross_entropy(kind, t.kind), mp.mean(difference * difference) * 0.5 },
    accuracy = mp.accuracy(kind, t.kind),
    outputs = { kind = kind, value = value },
  }
end

return mp.program {
  name = "two", forward = forward,
  data = mp.tensors { right = { "f32", 8 }, left = { "f32", 12 }, value = { "f32", 1 }, kind = { "i32" } },
  batch = 8, microbatches = 2, mesh = { pp = 2 }, steps = 20,
  optimizer = mp.sgd { lr = 0.1, momentum = 0.9, weight_decay = 1e-4, schedule = "linear", warmup = 5 },
}
