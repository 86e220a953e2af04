-- A misspelt variable.
local nn = require "nn"

local function forward(t)
  local width = 10
  return { loss = mp.cross_entropy(nn.linear("fc", t.image, prnt), t.label) }
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
