-- nn: layers, written in the primitives of mp.
--
-- A layer is a name and what it computes; its parameters are called NAME.weight and NAME.bias and start as PyTorch's
-- do, so that weights can be exchanged. How a layer is sharded over the tp axis is said where it is used
-- (shard = "column" | "row") and means nothing on a mesh without that axis.
local nn = {
  relu = mp.relu,
  gelu = mp.gelu,
  softmax = mp.softmax,
  flatten = mp.flatten,
}

-- U(-a, a) with a = sqrt(6 / (fan_in + fan_out)): keeps the variance of activations and gradients (Glorot, Bengio 2010).
function nn.xavier_uniform(fan_in, fan_out)
  local bound = math.sqrt(6 / (fan_in + fan_out))
  return mp.uniform(-bound, bound)
end

local function check_linear(name, x, out, options)
  if not mp.is_tensor(x) then
    mp.fail(("nn.linear: the second argument of '%s' must be a tensor, not %s"):format(name, mp.describe(x)))
  end
  if x.dims < 2 then
    mp.fail(("nn.linear: '%s' needs an input of two or more dims, not %s"):format(name, tostring(x)))
  end
  if math.type(out) ~= "integer" or out < 1 then
    mp.fail(("nn.linear: the width of '%s' must be a positive integer, not %s"):format(name, mp.describe(out)))
  end
  mp.check_fields("nn.linear", options, { "shard", "bias", "init", "bias_init", "weight" })
  local shard = options.shard
  if shard ~= nil and shard ~= "column" and shard ~= "row" then
    mp.fail(("nn.linear: shard of '%s' must be \"column\" or \"row\", not %s"):format(name, mp.describe(shard)))
  end
  local bias = options.bias
  if bias ~= nil and type(bias) ~= "boolean" and not mp.is_tensor(bias) then
    mp.fail(("nn.linear: bias of '%s' must be true, false or a tensor, not %s"):format(name, mp.describe(bias)))
  end
end

-- A weight or bias that another layer made, when it fits.
local function given(name, what, tensor, shape)
  if not mp.is_tensor(tensor) then
    mp.fail(("nn.linear: %s of '%s' must be a tensor, not %s"):format(what, name, mp.describe(tensor)))
  end
  local same = tensor.dims == #shape
  for i = 1, #shape do
    same = same and tensor.shape[i] == shape[i]
  end
  if not same then
    mp.fail(("nn.linear: %s of '%s' must have the shape [%s], not %s"):format(what, name, table.concat(shape, ","),
      tostring(tensor)))
  end
  return tensor
end

-- y = x W^T + b: x [.., in] -> y [.., out].
-- options: shard = "column" (W and b split by rows: the output is sharded on its last dim) or "row" (W split by
-- columns: partial sums are added), bias = true | false | a tensor, weight = a tensor (both: shared with another
-- layer), init, bias_init (default U(-1/sqrt(in), 1/sqrt(in)) for both).
function nn.linear(name, x, out, options)
  options = options or {}
  check_linear(name, x, out, options)
  return mp.layer(name, function()
    local features = x.shape[x.dims]
    local bound = 1 / math.sqrt(features)
    local init = mp.uniform(-bound, bound)
    local column, row = options.shard == "column", options.shard == "row"
    local weight, bias = options.weight, options.bias
    if weight then
      given(name, "weight", weight, { out, features })
    else
      weight = mp.parameter("weight", { out, features }, options.init or init, { shard = column and 1 or row and 2 or nil })
    end
    local y = mp.linear(x, weight)
    if bias == false then
      return y
    end
    if mp.is_tensor(bias) then
      given(name, "bias", bias, { out })
    else
      bias = mp.parameter("bias", { out }, options.bias_init or init, { shard = column and 1 or nil })
    end
    return mp.add(y, bias)
  end)
end

return nn
