-- nn.conv2d: a 2-d convolution of images.
local arguments = require "nn.arguments"
local inits = require "nn.inits"

local known = { "stride", "padding", "dilation", "groups", "shard", "bias", "init", "bias_init", "weight" }

local function check(name, x, out, options)
  arguments.images("nn.conv2d", name, x)
  arguments.positive("nn.conv2d", name, "channels", out)
  arguments.sharded("nn.conv2d", name, options, known)
  local groups = arguments.positive("nn.conv2d", name, "groups", options.groups or 1)
  for _, channels in ipairs { x.shape[2], out } do
    if channels % groups ~= 0 then
      mp.fail(("nn.conv2d: %d groups of '%s' do not divide its %d input and %d output channels"):format(groups, name,
        x.shape[2], out))
    end
  end
end

-- x [batch, in, h, w] -> y [batch, out, p, q]; kernel = n | {height, width}.
-- options: stride (1), padding (0), dilation (1), each n | {height, width}; groups (1); shard = "column" (the filters
-- split over tp: so are the output's channels) or "row" (split by input channels: partial sums are added); bias = true |
-- false | a tensor, weight = a tensor [out, in/groups, height, width] (both: shared with another layer); init, bias_init
-- (default U(-1/sqrt(fan_in), 1/sqrt(fan_in)) for both, fan_in = in/groups * kernel height * kernel width).
return function(name, x, out, kernel, options)
  options = options or {}
  check(name, x, out, options)
  local height, width = arguments.pair("nn.conv2d", name, "kernel", kernel)
  return mp.layer(name, function()
    local shape = { out, x.shape[2] // (options.groups or 1), height, width }
    local init = inits.default(shape[2] * height * width)
    local column, row = options.shard == "column", options.shard == "row"
    local weight, bias = options.weight, options.bias
    if weight then
      arguments.given("nn.conv2d", name, "weight", weight, shape)
    else
      weight = mp.parameter("weight", shape, options.init or init, { shard = column and 1 or row and 2 or nil })
    end
    if mp.is_tensor(bias) then
      arguments.given("nn.conv2d", name, "bias", bias, { out })
    elseif bias == false then
      bias = nil
    else
      bias = mp.parameter("bias", { out }, options.bias_init or init, { shard = column and 1 or nil })
    end
    return mp.conv2d(x, weight, {
      stride = options.stride, padding = options.padding, dilation = options.dilation, groups = options.groups, bias = bias,
    })
  end)
end
