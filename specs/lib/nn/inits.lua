-- nn.inits: how weights start, by the variance that they keep. A fan is the number of terms that a sum has: fan_in of an
-- output, fan_out of an input's gradient; of a convolution channels * kernel height * kernel width.
local inits = {}

-- U(-a, a) with a = sqrt(6 / (fan_in + fan_out)): keeps the variance of activations and gradients (Glorot, Bengio 2010).
function inits.xavier_uniform(fan_in, fan_out)
  local bound = math.sqrt(6 / (fan_in + fan_out))
  return mp.uniform(-bound, bound)
end

-- N(0, gain / sqrt(fan)), with the gain of ReLU unless another is given: keeps the variance of activations (fan_in) or
-- of gradients (fan_out) through ReLUs (He et al. 2015).
function inits.kaiming_normal(fan, gain)
  return mp.normal(0, (gain or math.sqrt(2)) / math.sqrt(fan))
end

-- U(-a, a) with a = 1 / sqrt(fan_in): PyTorch's default for weights and biases of linear and convolutional layers.
function inits.default(fan_in)
  local bound = 1 / math.sqrt(fan_in)
  return mp.uniform(-bound, bound)
end

return inits
