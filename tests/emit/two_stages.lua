-- run: --mesh pp=2 --microbatches 2
-- keep: program_0.cu program_1.cu memory.h plan.txt dump:synchronise
-- The smallest pipeline: a layer on each of two devices.
local nn = require "nn"

local function forward(t)
  local h = nn.relu(nn.linear("first", t.x, 4))
  mp.cut()
  local d = nn.linear("second", h, 2) - t.y
  return { loss = mp.mean(d * d) }
end

return mp.program {
  forward = forward, data = mp.tensors { x = { "f32", 3 }, y = { "f32", 2 } }, batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
