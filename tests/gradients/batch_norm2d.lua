-- batch_norm2d: of a micro-batch of one replica and of all, behind a convolution, behind each other, of an image that a
-- parameter scales element by element; an eps and a momentum of their own.
local nn = require "nn"

local function norm(name, x, options)
  return mp.scope(name, function()
    local channels = { x.shape[2] }
    options.weight = mp.parameter("weight", channels, mp.normal(1, 0.5))
    options.bias = mp.parameter("bias", channels, mp.normal(0, 0.5))
    options.running_mean = mp.buffer("running_mean", channels, mp.zeros)
    options.running_var = mp.buffer("running_var", channels, mp.constant(1))
    options.num_batches_tracked = mp.buffer("num_batches_tracked", {}, mp.zeros, { type = "i32" })
    return mp.batch_norm2d(x, options)
  end)
end

local function forward(t)                            -- t.x f32[batch,3,4,3], t.y f32[batch,5,4,3]
  local h = norm("image", t.x * mp.parameter("gain", { 3, 4, 3 }, mp.normal(1, 0.5)), {})
  h = norm("first", nn.conv2d("conv", h, 5, 3, { padding = 1, bias = false }), { eps = 0.3, momentum = 0.7 })
  mp.cut()
  local y = norm("second", nn.gelu(h) + h * h, { sync = true }) + h
  return { loss = { nn.mse(nn.tanh(y), t.y), nn.mse(y * y, t.y) * 0.1 } }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 3, 4, 3 }, y = { "f32", 5, 4, 3 } },
  batch = 8, microbatches = 2, optimizer = mp.sgd { lr = 1 },
}
