-- conv2d: a filter on the image, and one on what that gives, so that gradients of images pass through; with bias and
-- without, and a filter that two convolutions share.
local nn = require "nn"

local function forward(t)                            -- t.x f32[batch,3,5,4], t.y f32[batch,4,5,4]
  local h = nn.tanh(nn.conv2d("first", t.x, 4, 3, { padding = 1 }))
  local shared = mp.parameter("shared", { 4, 4, 3, 3 }, mp.normal(0, 0.2))
  h = nn.conv2d("second", h, 4, 3, { padding = 1, weight = shared, bias = false }) * h
  h = mp.conv2d(h, shared, { padding = 1, bias = mp.parameter("bias", { 4 }, mp.normal(0, 1)) })
  return { loss = 10 * nn.mse(nn.conv2d("third", h, 4, 1), t.y) }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 3, 5, 4 }, y = { "f32", 4, 5, 4 } },
  batch = 8, microbatches = 2, optimizer = mp.sgd { lr = 1 },
}
