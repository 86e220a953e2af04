-- filters for another number of channels
local nn = require "nn"
local function forward(t)
  local w = mp.parameter("w", { 6, 3, 3, 3 }, mp.zeros)
  local h = mp.conv2d(t.image, w)
  local logits = nn.linear("fc", nn.flatten(h), 10)
  return { loss = mp.cross_entropy(logits, t.label) }
end

return mp.program {
  forward = forward,
  data = mp.tensors { image = { "f32", 4, 8, 8 }, label = { "i32" } },
  batch = 4, optimizer = mp.sgd { lr = 0.1 },
}
