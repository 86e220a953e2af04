-- nn.layer_norm: each row to zero mean and unit variance, then to a trained scale and shift.
local arguments = require "nn.arguments"

local known = { "eps", "bias" }

-- x [.., features] -> y of the same shape. options: eps (1e-5), bias = false for a scale alone. Weight decay is not for
-- norms.
return function(name, x, options)
  options = options or {}
  arguments.input("nn.layer_norm", name, x)
  mp.check_fields("nn.layer_norm", options, known)
  local bias = options.bias
  if bias ~= nil and type(bias) ~= "boolean" then
    mp.fail(("nn.layer_norm: bias of '%s' must be true or false, not %s"):format(name, mp.describe(bias)))
  end
  return mp.layer(name, function()
    local features = { x.shape[x.dims] }
    local weight = mp.parameter("weight", features, mp.constant(1), { decay = false })
    local shift = bias ~= false and mp.parameter("bias", features, mp.zeros, { decay = false }) or nil
    return mp.layer_norm(x, weight, shift, options.eps)
  end)
end
