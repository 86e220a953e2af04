-- run: --mesh tp=2 --mode infer
-- keep: program_0.cu main.c
-- Inference: outputs that are gathered, padding of 3 columns over 2 devices.
local nn = require "nn"

local function forward(t)
  local y = nn.linear("only", t.x, 3, { shard = "column" })
  return { loss = mp.mean(y * y), outputs = { y = y } }
end

return mp.program {
  forward = forward, data = mp.tensors { x = { "f32", 4 } }, batch = 4, optimizer = mp.sgd { lr = 0.1 },
}
