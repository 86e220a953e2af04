-- forward returns nothing.
local nn = require "nn"

local function forward(t)
  local logits = nn.linear("fc", t.image, 10)
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
