-- Residual networks for images (He et al. 2015) as torchvision has them: depth 18, 34 or 50, with its names of parameters,
-- so that its weights load.
--
-- The stream between the residual blocks is whole on every device of a tp axis; inside of a block the first convolution
-- is split by its filters and the second by its input channels, so each block adds partial sums once. A block is a unit
-- of stages; with -D cuts=layers a stage may end inside of one, and its skip crosses the cut.
local nn = require "nn"

local depth = mp.option("depth", 18, "18, 34 or 50")
local channels = mp.option("channels", 3, "channels of an image")
local image = mp.option("image", 224, "height and width of an image")
local classes = mp.option("classes", 1000, "classes")
local width = mp.option("width", 64, "channels of the first convolution")
local stem = mp.option("stem", "auto", "large: 7 x 7 stride 2 and a pool; small: 3 x 3; auto: small below 64 pixels")
local sync = mp.option("sync", false, "batch norm over all replicas")
local cuts = mp.option("cuts", "blocks", "where a stage may end: between blocks, or also between layers")
local lr = mp.option("lr", 0.01, "learning rate")
local momentum = mp.option("momentum", 0.9, "momentum of SGD")
local weight_decay = mp.option("weight_decay", 1e-4, "weight decay of SGD")
local schedule = mp.option("schedule", "constant", "learning rate: constant, or linear decay to 0")

local function choice(option, value, values)
  if values[value] == nil then
    error(("there is no %s '%s'"):format(option, value), 2)
  end
  return values[value]
end

local block = choice("cuts", cuts, { blocks = mp.block, layers = mp.scope })
local large_stem = choice("stem", stem, { auto = image >= 64, large = true, small = false })

local function conv(name, x, out, kernel, stride, shard)
  return nn.conv2d(name, x, out, kernel, {
    stride = stride, padding = kernel // 2, bias = false, shard = shard, init = nn.kaiming_normal(out * kernel * kernel),
  })
end

local function norm(name, x, shard)
  return nn.batch_norm2d(name, x, { sync = sync, shard = shard })
end

-- The block's input as its output adds it: through a 1 x 1 convolution where the shapes differ.
local function skip(x, out, stride)
  if stride == 1 and x.shape[2] == out then
    return x
  end
  return norm("downsample.1", conv("downsample.0", x, out, 1, stride))
end

-- Two 3 x 3 convolutions.
local function basic(x, planes, stride)
  local h = nn.relu(norm("bn1", conv("conv1", x, planes, 3, stride, "column"), true))
  h = norm("bn2", conv("conv2", h, planes, 3, 1, "row"))
  return nn.relu(h + skip(x, planes, stride))
end

-- 1 x 1 to fewer channels, 3 x 3, 1 x 1 to four times as many.
local function bottleneck(x, planes, stride)
  local h = nn.relu(norm("bn1", conv("conv1", x, planes, 1, 1, "column"), true))
  h = nn.relu(norm("bn2", conv("conv2", h, planes, 3, stride, "row")))
  h = norm("bn3", conv("conv3", h, 4 * planes, 1, 1))
  return nn.relu(h + skip(x, 4 * planes, stride))
end

local residual = choice("depth", depth, {
  [18] = { basic, 2, 2, 2, 2 }, [34] = { basic, 3, 4, 6, 3 }, [50] = { bottleneck, 3, 4, 6, 3 },
})

local function forward(t)                       -- t.image f32[batch,3,224,224], t.label i32[batch]
  local h = conv("conv1", t.image, width, large_stem and 7 or 3, large_stem and 2 or 1)
  h = nn.relu(norm("bn1", h))
  if large_stem then
    h = nn.max_pool2d(h, 3, { stride = 2, padding = 1 })
  end
  for layer = 1, 4 do
    for i = 0, residual[layer + 1] - 1 do
      local stride = layer > 1 and i == 0 and 2 or 1
      h = block(("layer%d.%d"):format(layer, i), residual[1], h, width << (layer - 1), stride)
    end
  end
  local logits = nn.linear("fc", nn.flatten(nn.adaptive_avg_pool2d(h, 1)), classes)
  return {
    loss = mp.cross_entropy(logits, t.label),   -- what training minimises
    accuracy = mp.accuracy(logits, t.label),    -- what evaluation reports
    outputs = { logits = logits },              -- what inference writes
  }
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", channels, image, image }, label = { "i32" } },
  batch = 32, microbatches = 4, mesh = { pp = 4 },
  optimizer = mp.sgd { lr = lr, momentum = momentum, weight_decay = weight_decay, schedule = schedule },
}
