-- A mistake in a module of the user: its line, then the line that called it.
local nn = require "nn"

local function forward(t)
  local layers = require "modules.layers"
  local y = layers.head(t.image, "ten")
  return { loss = mp.cross_entropy(y, t.label) }
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
