-- One weight used by two distant stages.
local nn = require "nn"

local function forward(t)
  local shared = mp.parameter("shared.weight", { 32, 32 }, mp.normal(0, 0.2), { decay = false })
  local h = nn.relu(nn.linear("first", t.image, 32))
  h = nn.relu(nn.linear("second", h, 32, { weight = shared }))
  mp.cut()
  h = nn.relu(nn.linear("third", h, 32))
  mp.cut()
  h = nn.relu(nn.linear("fourth", h, 32, { weight = shared, bias = false }))
  local logits = nn.linear("fifth", h, 10)
  return { loss = mp.cross_entropy(logits, t.label), outputs = { logits = logits } }
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
