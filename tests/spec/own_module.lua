-- run: --summary
-- A module below the folder of the spec.
local nn = require "nn"

local function forward(t)
  local layers = require "modules.layers"
  return { loss = mp.cross_entropy(layers.head(t.image, 10), t.label) }
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
