-- run: --microbatches 8
-- A batch norm of images of one pixel in micro-batches of one sample.
local nn = require "nn"

local function forward(t)                            -- t.image f32[8,6,5,4]
  local h = nn.batch_norm2d("norm", nn.adaptive_avg_pool2d(t.image, 1))
  return { loss = mp.mean(h * h) }
end

return mp.program {
  forward = forward,
  data = mp.tensors { image = { "f32", 6, 5, 4 } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
