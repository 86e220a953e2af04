-- Two layers of one name.
local nn = require "nn"

local function forward(t)
  local h = nn.relu(nn.linear("fc", t.image, 784))
  return { loss = mp.cross_entropy(nn.linear("fc", h, 10), t.label) }
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
