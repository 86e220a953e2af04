-- Convolutions and pools of one image, each an output and a term of the loss. An output's name says what it is, and the
-- reference in models.py reads it too. kHxW: kernel, s: stride, p: padding, d: dilation, g: groups, c: output channels.
local nn = require "nn"

local convolutions = {
  "conv_c6_k3x3_s1x1_p0x0_d1x1_g1", "conv_c6_k3x3_s1x1_p1x1_d1x1_g1_column", "conv_c6_k3x3_s1x1_p1x1_d1x1_g1_row",
  "conv_c5_k1x1_s1x1_p0x0_d1x1_g1", "conv_c8_k1x1_s2x2_p0x0_d1x1_g1_column", "conv_c3_k3x3_s2x2_p1x1_d1x1_g1_row",
  "conv_c2_k2x2_s1x1_p0x0_d1x1_g1", "conv_c2_k2x3_s2x1_p1x2_d1x1_g1", "conv_c4_k3x2_s1x2_p2x0_d2x3_g1",
  "conv_c4_k3x3_s3x3_p4x3_d1x1_g1", "conv_c2_k9x7_s1x1_p0x0_d1x1_g1", "conv_c1_k5x5_s1x1_p2x2_d1x1_g1",
  "conv_c6_k3x3_s1x1_p1x1_d1x1_g2", "conv_c4_k3x3_s1x1_p1x1_d1x1_g4", "conv_c8_k3x2_s2x1_p1x1_d2x1_g4",
}
local pools = {
  "max_k2x2_s2x2_p0x0_d1x1", "max_k3x3_s2x2_p1x1_d1x1", "max_k2x3_s1x2_p1x0_d2x3", "max_k9x7_s1x1_p0x0_d1x1",
  "max_k3x3_s1x1_p1x1_d1x1", "max_k1x1_s4x4_p0x0_d1x1",
  "avg_k2x2_s2x2_p0x0_include", "avg_k3x3_s2x2_p1x1_include", "avg_k3x3_s2x2_p1x1_exclude", "avg_k2x5_s1x3_p0x2_exclude",
  "avg_k3x2_s3x1_p1x1_include",
  "adaptive_1x1", "adaptive_3x3", "adaptive_2x5", "adaptive_9x7", "adaptive_4x1", "adaptive_11x8",
}

local function pair(name, letter)
  local height, width = name:match("_" .. letter .. "(%d+)x(%d+)")
  return { math.tointeger(height), math.tointeger(width) }
end

local function convolution(name, x)
  local window = { stride = pair(name, "s"), padding = pair(name, "p"), dilation = pair(name, "d") }
  window.groups = math.tointeger(name:match("_g(%d+)"))
  window.shard = name:match("column") or name:match("row")
  return nn.conv2d(name, x, math.tointeger(name:match("_c(%d+)")), pair(name, "k"), window)
end

local function pool(name, x)
  if name:match("adaptive") then
    local height, width = name:match("(%d+)x(%d+)")
    return nn.adaptive_avg_pool2d(x, { math.tointeger(height), math.tointeger(width) })
  end
  local window = { stride = pair(name, "s"), padding = pair(name, "p") }
  if name:match("max") then
    window.dilation = pair(name, "d")
    return nn.max_pool2d(x, pair(name, "k"), window)
  end
  window.count_include_pad = name:match("include") ~= nil
  return nn.avg_pool2d(x, pair(name, "k"), window)
end

local function forward(t)                            -- t.x, t.steps f32[batch,4,9,7]; steps are whole: they have ties
  local x = t.x * mp.parameter("gain", { 4, 9, 7 }, mp.constant(1))
  local steps = t.steps * mp.parameter("ones", { 4, 9, 7 }, mp.constant(1))
  local outputs, losses = { ties = nn.max_pool2d(steps, { 4, 3 }, { stride = { 2, 1 }, padding = { 2, 1 } }) }, {}
  for _, name in ipairs(convolutions) do
    outputs[name] = convolution(name, x)
  end
  for _, name in ipairs(pools) do
    outputs[name] = pool(name, x)
  end
  for _, y in pairs(outputs) do
    losses[#losses + 1] = mp.mean(y * y)
  end
  return { loss = losses, outputs = outputs }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 4, 9, 7 }, steps = { "f32", 4, 9, 7 } },
  batch = 64, optimizer = mp.sgd { lr = 0.1 },
}
