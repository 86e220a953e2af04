-- Batch norms of an image that is scaled element by element, so that gradients of their input show: with PyTorch's
-- defaults, with a momentum and an eps of their own, one behind the other, sharded over tp and not.
local nn = require "nn"

local lr = mp.option("lr", 0.2, "learning rate")
local momentum = mp.option("momentum", 0.9, "momentum of SGD")
local weight_decay = mp.option("weight_decay", 1e-3, "weight decay of SGD")
local schedule = mp.option("schedule", "constant", "learning rate: constant, or linear decay to 0")
local sync = mp.option("sync", false, "statistics over all replicas")

local function forward(t)                            -- t.x, t.y f32[batch,5,4,3]
  local x = t.x * mp.parameter("gain", { 5, 4, 3 }, mp.constant(1))
  local plain = nn.batch_norm2d("plain", x, { sync = sync })
  local own = nn.batch_norm2d("own", x, { momentum = 0.3, eps = 0.1, sync = sync, shard = true })
  local h = nn.conv2d("conv", nn.sigmoid(plain) + own, 5, 1, { shard = "column" })
  local y = nn.batch_norm2d("last", h, { momentum = 1, shard = true, sync = sync })
  return {
    loss = { nn.mse(plain, t.y), nn.mse(own, t.y) * 0.5, nn.mse(nn.tanh(y), t.y) },
    outputs = { plain = plain, own = own, y = y },
  }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 5, 4, 3 }, y = { "f32", 5, 4, 3 } },
  batch = 16, optimizer = mp.sgd { lr = lr, momentum = momentum, weight_decay = weight_decay, schedule = schedule },
}
