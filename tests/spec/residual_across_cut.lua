-- A residual branch that skips a stage.
local nn = require "nn"

local function forward(t)
  local h = nn.relu(nn.linear("first", t.image, 32))
  mp.cut()
  local y = nn.relu(nn.linear("second", h, 32))
  mp.cut()
  local logits = nn.linear("third", h + y, 10)
  return { loss = mp.cross_entropy(logits, t.label), accuracy = mp.accuracy(logits, t.label), outputs = { logits = logits } }
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
