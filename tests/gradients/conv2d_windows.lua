-- conv2d with strides, paddings and dilations, also unequal ones and such that leave a rest of the image; with groups,
-- one for each channel too. Each output is seen by a loss, each image of them is the output of another convolution.
local nn = require "nn"

local forms = {
  { 3, 3, { stride = 2 } }, { 2, 3, { padding = 2 } }, { 4, { 2, 3 }, { stride = { 3, 2 }, padding = { 1, 2 } } },
  { 2, { 3, 2 }, { dilation = { 2, 3 } } }, { 3, 2, { stride = 2, padding = 1, dilation = 2 } }, { 2, { 7, 6 } },
  { 6, 3, { groups = 2, padding = 1 } }, { 4, 3, { groups = 4 } }, { 8, 2, { groups = 4, stride = 2, dilation = 2 } },
}

local function forward(t)                            -- t.x f32[batch,3,7,6]
  local losses = {}
  for i, form in ipairs(forms) do
    local h = nn.conv2d(("image%d"):format(i), t.x, 4, 1)
    h = nn.gelu(nn.conv2d(("form%d"):format(i), h, form[1], form[2], form[3]))
    losses[i] = mp.mean(h * h)
  end
  return { loss = losses }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 3, 7, 6 } },
  batch = 8, microbatches = 2, optimizer = mp.sgd { lr = 1 },
}
