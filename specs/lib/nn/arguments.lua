-- nn.arguments: checks of what layers are given. `what` is the layer's function, "nn.linear", `name` the layer's name.
local arguments = {}

function arguments.input(what, name, x)
  if not mp.is_tensor(x) then
    mp.fail(("%s: the second argument of '%s' must be a tensor, not %s"):format(what, name, mp.describe(x)))
  end
end

-- x is [batch, channels, height, width].
function arguments.images(what, name, x)
  arguments.input(what, name, x)
  if x.dims ~= 4 then
    mp.fail(("%s: '%s' needs images [batch,channels,height,width], not %s"):format(what, name, tostring(x)))
  end
end

function arguments.positive(what, name, which, value)
  if math.type(value) ~= "integer" or value < 1 then
    mp.fail(("%s: the %s of '%s' must be a positive integer, not %s"):format(what, which, name, mp.describe(value)))
  end
  return value
end

-- Height and width of n or {h, w}.
function arguments.pair(what, name, which, value)
  if type(value) ~= "table" then
    arguments.positive(what, name, which, value)
    return value, value
  end
  if #value ~= 2 then
    mp.fail(("%s: the %s of '%s' must be a number or {height, width}, not a table of %d values"):format(what, which, name,
      #value))
  end
  return arguments.positive(what, name, which .. "'s height", value[1]),
    arguments.positive(what, name, which .. "'s width", value[2])
end

-- The options of layers with a weight that tp can split by its outputs (column) or by its inputs (row).
function arguments.sharded(what, name, options, known)
  mp.check_fields(what, options, known)
  local shard, bias = options.shard, options.bias
  if shard ~= nil and shard ~= "column" and shard ~= "row" then
    mp.fail(("%s: shard of '%s' must be \"column\" or \"row\", not %s"):format(what, name, mp.describe(shard)))
  end
  if bias ~= nil and type(bias) ~= "boolean" and not mp.is_tensor(bias) then
    mp.fail(("%s: bias of '%s' must be true, false or a tensor, not %s"):format(what, name, mp.describe(bias)))
  end
end

-- A weight or bias that another layer made, when it fits.
function arguments.given(what, name, which, tensor, shape)
  if not mp.is_tensor(tensor) then
    mp.fail(("%s: %s of '%s' must be a tensor, not %s"):format(what, which, name, mp.describe(tensor)))
  end
  local same = tensor.dims == #shape
  for i = 1, #shape do
    same = same and tensor.shape[i] == shape[i]
  end
  if not same then
    mp.fail(("%s: %s of '%s' must have the shape [%s], not %s"):format(what, which, name, table.concat(shape, ","),
      tostring(tensor)))
  end
  return tensor
end

return arguments
