-- An accuracy of what three stages make: its tensors cross the cuts beside those of training, in evaluations only. The second
-- stage takes so long that several micro-batches wait for it.
local nn = require "nn"

local function forward(t)
  local h = nn.relu(nn.linear("first", t.image, 32))
  local seen = nn.relu(h * h)
  mp.cut()
  for i = 1, 6 do
    h = h + nn.relu(nn.linear("second" .. i, h, 32))
  end
  local both = nn.relu(h + seen)
  h = mp.scale(h, 2)
  mp.cut()
  local y = nn.linear("third", h, 32)
  return { loss = mp.cross_entropy(y, t.label), accuracy = mp.accuracy(y + seen + both, t.label), outputs = { y = y } }
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 12, optimizer = mp.sgd { lr = 0.1 },
}
