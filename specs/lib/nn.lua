-- nn: layers, written in the primitives of mp.
--
-- A layer is a name and what it computes; its parameters are called NAME.weight and NAME.bias and start as PyTorch's
-- do, so that weights can be exchanged. How a layer is sharded over the tp axis is said where it is used
-- (shard = "column" | "row") and means nothing on a mesh without that axis. Images are [batch, channels, height, width].
local inits = require "nn.inits"

return {
  linear = require "nn.linear",
  conv2d = require "nn.conv2d",
  batch_norm2d = require "nn.batch_norm2d",
  embedding = require "nn.embedding",
  layer_norm = require "nn.layer_norm",
  self_attention = require "nn.self_attention",
  rms_norm = require "nn.rms_norm",
  residual = require "nn.residual",
  mse = require "nn.mse",

  xavier_uniform = inits.xavier_uniform,
  kaiming_normal = inits.kaiming_normal,

  relu = mp.relu,
  gelu = mp.gelu,
  silu = mp.silu,
  tanh = mp.tanh,
  sigmoid = mp.sigmoid,
  softmax = mp.softmax,
  swiglu = mp.swiglu,
  dropout = mp.dropout,
  max_pool2d = mp.max_pool2d,
  avg_pool2d = mp.avg_pool2d,
  adaptive_avg_pool2d = mp.adaptive_avg_pool2d,
  flatten = mp.flatten,
}
