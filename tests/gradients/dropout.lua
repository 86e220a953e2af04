-- dropout: of activations and of images, one behind the other, with cuts between them; each draws for itself.
local nn = require "nn"

local function forward(t)                            -- t.x f32[batch,3,4,5], t.y f32[batch,6]
  local h = nn.dropout(t.x * mp.parameter("gain", { 3, 4, 5 }, mp.normal(1, 0.5)), 0.2)
  h = nn.dropout(nn.gelu(nn.conv2d("conv", h, 4, 3)), 0.5)
  mp.cut()
  h = nn.dropout(nn.linear("fc", nn.flatten(h), 6), 0.3)
  local d = h * nn.dropout(h, 0) - t.y
  return { loss = 10 * mp.mean(d * d) }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 3, 4, 5 }, y = { "f32", 6 } },
  batch = 8, microbatches = 2, optimizer = mp.sgd { lr = 1 },
}
