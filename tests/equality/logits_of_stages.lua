-- The gradient of a loss, which is made with it, goes straight to every stage that a part of the logits comes from.
local nn = require "nn"

local function forward(t)
  local first = nn.linear("a", t.image, 10)
  mp.cut()
  local h = nn.relu(nn.linear("b", t.image, 12))
  mp.cut()
  local logits = first + nn.linear("c", h, 10)
  return { loss = mp.cross_entropy(logits, t.label), accuracy = mp.accuracy(logits, t.label), outputs = { logits = logits } }
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 64,
  optimizer = mp.sgd { lr = 0.05, momentum = 0.9 },
}
