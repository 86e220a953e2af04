-- nn.batch_norm2d: each channel to zero mean and unit variance, then to a trained scale and shift.
local arguments = require "nn.arguments"

local known = { "momentum", "eps", "sync", "shard" }

-- x [batch, channels, h, w] -> y of the same shape. While training the statistics are those of one replica's
-- micro-batch, or with sync = true of the micro-batch over all replicas; evaluation and inference take the running ones.
-- options: momentum (0.1, the weight of a new value in the running statistics), eps (1e-5), sync (false), shard = true
-- where x's channels are split over tp (behind a convolution with shard = "column").
return function(name, x, options)
  options = options or {}
  arguments.images("nn.batch_norm2d", name, x)
  mp.check_fields("nn.batch_norm2d", options, known)
  local shard = options.shard
  if shard ~= nil and type(shard) ~= "boolean" then
    mp.fail(("nn.batch_norm2d: shard of '%s' must be true or false, not %s"):format(name, mp.describe(shard)))
  end
  return mp.layer(name, function()
    local channels, place = { x.shape[2] }, { shard = shard and 1 or nil }
    return mp.batch_norm2d(x, {
      weight = mp.parameter("weight", channels, mp.constant(1), place),
      bias = mp.parameter("bias", channels, mp.zeros, place),
      running_mean = mp.buffer("running_mean", channels, mp.zeros, place),
      running_var = mp.buffer("running_var", channels, mp.constant(1), place),
      num_batches_tracked = mp.buffer("num_batches_tracked", {}, mp.zeros, { type = "i32" }),
      momentum = options.momentum, eps = options.eps, sync = options.sync,
    })
  end)
end
