-- an option that buffers do not have
local nn = require "nn"
local function forward(t)
  local b = mp.buffer("b", { 4 }, mp.zeros, { decay = false })
  local h = t.image
  local logits = nn.linear("fc", nn.flatten(h), 10)
  return { loss = mp.cross_entropy(logits, t.label) }
end

return mp.program {
  forward = forward,
  data = mp.tensors { image = { "f32", 4, 8, 8 }, label = { "i32" } },
  batch = 4, optimizer = mp.sgd { lr = 0.1 },
}
