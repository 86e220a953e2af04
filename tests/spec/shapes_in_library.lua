-- A mistake inside of nn.linear shows the line that called it, although that is a tail call.
local nn = require "nn"

local function forward(t)
  local w = mp.parameter("w", { 10, 785 }, mp.zeros)
  local function logits()
    return nn.linear("fc", t.image, 10, { weight = w })
  end
  return { loss = mp.cross_entropy(logits(), t.label) }
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
