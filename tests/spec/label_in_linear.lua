-- The innermost line of the user comes first, the line of the library after it.
local nn = require "nn"

local function forward(t)
  return { loss = mp.cross_entropy(nn.linear("fc", mp.reshape(t.label, 8, 1), 10), t.label) }
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
