-- A bias of another length than the output channels.
local nn = require "nn"

local function forward(t)                            -- t.image f32[8,6,5,4]
  local h = nn.conv2d("first", t.image, 7, 3, { bias = mp.parameter("b", { 6 }, mp.zeros) })
  return { loss = mp.mean(h * h) }
end

return mp.program {
  forward = forward,
  data = mp.tensors { image = { "f32", 6, 5, 4 } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
