-- A module outside of the spec folder.
local nn = require "nn"

local function forward(t)
  local layers = require "../lib/layers"
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
