-- Layers whose weights are split over devices: the smallest models that show tensor parallelism.
--
--   -D layer=column  1024 -> 4096, the weight split by output features; the output is gathered
--   -D layer=row     1024 -> 4096, the weight split by input features; the partial sums are reduced
--   -D layer=pair    1024 -> 4096 -> 1024, column then row: nothing is communicated between the two
--
-- The inits are those of the whole matrices (Xavier-uniform weights, zero biases), whatever the mesh. Training fits
-- the output y to the target by the mean of squared errors.
local nn = require "nn"

local layer = mp.option("layer", "column", "column, row or pair")
local lr = mp.option("lr", 0.01, "learning rate")

local features, hidden = 1024, 4096

local function linear(name, x, out, shard)
  local init = nn.xavier_uniform(x.shape[x.dims], out)
  return nn.linear(name, x, out, { shard = shard, init = init, bias_init = mp.zeros })
end

local models = {}

function models.column(x)
  local y = linear("linear", x, hidden, "column")
  return mp.constrain(y, { tp = "replicate" })  -- gathered: every device has the whole [batch,4096]
end

function models.row(x)
  return linear("linear", x, hidden, "row")
end

function models.pair(x)
  return linear("down", linear("up", x, hidden, "column"), features, "row")
end

local model = models[layer] or error(("there is no layer '%s': column, row or pair"):format(layer))

local function forward(t)                       -- t.x f32[batch,1024], t.target f32[batch,4096] (pair: 1024)
  local y = model(t.x)
  local difference = mp.sub(y, t.target)
  return {
    loss = mp.mean(mp.mul(difference, difference)),
    outputs = { y = y },
  }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", features }, target = { "f32", layer == "pair" and features or hidden } },
  batch = 32, mesh = { tp = 2 },
  optimizer = mp.sgd { lr = lr },
}
