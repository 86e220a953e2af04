-- A block stays on one stage.
local nn = require "nn"

local function forward(t)
  local y = mp.block("first", function(x)
    local h = nn.linear("fc", x, 10)
    mp.cut()
    return h
  end, t.image)
  return { loss = mp.cross_entropy(y, t.label) }
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
