-- nn.linear: y = x W^T + b.
local arguments = require "nn.arguments"
local inits = require "nn.inits"

local known = { "shard", "bias", "init", "bias_init", "weight", "bias_decay", "files" }

local function check(name, x, out, options)
  arguments.input("nn.linear", name, x)
  if x.dims < 2 then
    mp.fail(("nn.linear: '%s' needs an input of two or more dims, not %s"):format(name, tostring(x)))
  end
  arguments.positive("nn.linear", name, "width", out)
  arguments.sharded("nn.linear", name, options, known)
end

-- x [.., in] -> y [.., out].
-- options: shard = "column" (W and b split by rows: the output is sharded on its last dim) or "row" (W split by
-- columns: partial sums are added), bias = true | false | a tensor, weight = a tensor (both: shared with another
-- layer), init, bias_init (default U(-1/sqrt(in), 1/sqrt(in)) for both), bias_decay = true | false,
-- files: { weight =, bias = } as of mp.parameter.
return function(name, x, out, options)
  options = options or {}
  check(name, x, out, options)
  return mp.layer(name, function()
    local features = x.shape[x.dims]
    local init = inits.default(features)
    local column, row = options.shard == "column", options.shard == "row"
    local weight, bias, files = options.weight, options.bias, options.files or {}
    if weight then
      arguments.given("nn.linear", name, "weight", weight, { out, features })
    else
      weight = mp.parameter("weight", { out, features }, options.init or init, {
        shard = column and 1 or row and 2 or nil, files = files.weight,
      })
    end
    local y = mp.linear(x, weight)
    if bias == false then
      return y
    end
    if mp.is_tensor(bias) then
      arguments.given("nn.linear", name, "bias", bias, { out })
    else
      bias = mp.parameter("bias", { out }, options.bias_init or init, {
        shard = column and 1 or nil, decay = options.bias_decay, files = files.bias,
      })
    end
    return mp.add(y, bias)
  end)
end
