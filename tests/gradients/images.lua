-- Images and other uses of tensors of four dims: arithmetic with rows of each length, sums and means over dims, softmax
-- and a product over the width, reshapes to, from and between images, and a filter that is a product.
local nn = require "nn"

local function forward(t)                            -- t.x f32[batch,3,4,6], t.flat f32[batch,24]
  local x = nn.conv2d("image", t.x, 2, 1) * mp.parameter("channels", { 2, 4, 6 }, mp.normal(1, 0.5))
  x = x + mp.parameter("rows", { 4, 6 }, mp.normal(0, 0.5)) - mp.parameter("columns", { 6 }, mp.normal(0, 0.5))
  local samples = x.shape[1]
  local filter = mp.reshape(mp.matmul(mp.parameter("left", { 4, 2 }, mp.normal(0, 1)),
    mp.parameter("right", { 2, 8 }, mp.normal(0, 1))), { 4, 2, 2, 2 })
  local y = nn.tanh(mp.conv2d(x, filter, { stride = 2 }))                       -- [batch,4,2,3]
  local terms = {
    mp.mean(x, 2), mp.sum(y, -1), mp.mean(y, { 3, 4 }), mp.sum(x, { 2, 3 }), mp.mean(x, { 2, 4 }),
    nn.softmax(x) * x, nn.linear("width", x, 5), mp.matmul(y, mp.parameter("product", { 3, 2 }, mp.normal(0, 1))),
    nn.linear("all", nn.flatten(y) + t.flat, 3), mp.reshape(y, { samples, 2, 6, 2 }) * mp.reshape(t.flat, { samples, 2, 6, 2 }),
    nn.max_pool2d(mp.reshape(t.flat * mp.parameter("flat_gain", { 24 }, mp.normal(1, 0.5)), { samples, 2, 4, 3 }), 2),
    nn.conv2d("last", mp.reshape(x, { samples, 6, 2, 4 }), 2, 2),
  }
  local losses = {}
  for i, term in ipairs(terms) do
    losses[i] = mp.mean(term * term)
  end
  return { loss = losses }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 3, 4, 6 }, flat = { "f32", 24 } },
  batch = 8, microbatches = 2, optimizer = mp.sgd { lr = 1 },
}
