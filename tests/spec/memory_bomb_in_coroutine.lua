-- A table that grows in a coroutine.
local nn = require "nn"

local function forward(t)
  coroutine.wrap(function()
    local all = {}
    while true do all[#all + 1] = #all end
  end)()
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
