-- A padding that other libraries know by name.
local nn = require "nn"

local function forward(t)                            -- t.image f32[8,6,5,4]
  local h = nn.conv2d("first", t.image, 8, 3, { padding = "same" })
  return { loss = mp.mean(h * h) }
end

return mp.program {
  forward = forward,
  data = mp.tensors { image = { "f32", 6, 5, 4 } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
