-- More memory than a spec may have.
local nn = require "nn"

local function forward(t)
  local all = {}
  for i = 1, 1000 do
    all[i] = ("x"):rep(1000000) .. i
  end
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
