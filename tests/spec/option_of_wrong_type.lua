-- run: -D width=ten
local nn = require "nn"
local width = mp.option("width", 10, "classes")
local deep = mp.option("deep", false)

local function forward(t)
  return { loss = mp.cross_entropy(nn.linear("fc", t.image, width), t.label) }
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
