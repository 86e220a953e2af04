-- run: --summary -D width=20 -D deep=true -D width=30 --mesh dp=2,pp=3 --batch 96 --microbatches 2
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
