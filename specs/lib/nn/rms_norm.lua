-- nn.rms_norm: each row divided by the root of its mean square, then scaled by trained weights.
local arguments = require "nn.arguments"

local known = { "eps" }

-- x [.., features] -> y of the same shape. options: eps (1e-5). Weight decay is not for norms.
return function(name, x, options)
  options = options or {}
  arguments.input("nn.rms_norm", name, x)
  mp.check_fields("nn.rms_norm", options, known)
  return mp.layer(name, function()
    local weight = mp.parameter("weight", { x.shape[x.dims] }, mp.constant(1), { decay = false })
    return mp.rms_norm(x, weight, options.eps)
  end)
end
