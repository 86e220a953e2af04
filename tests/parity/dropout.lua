-- Two dropouts of ones: what is left is what was kept, and so are the gradients of the gains.
local nn = require "nn"

local function forward(t)                            -- t.x f32[batch,4096]
  local first = nn.dropout(t.x * mp.parameter("first", { 4096 }, mp.constant(1)), 0.25)
  local second = nn.dropout(t.x * mp.parameter("second", { 4096 }, mp.constant(1)), 0.5)
  return { loss = { mp.mean(first), mp.mean(second) }, outputs = { first = first, second = second } }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 4096 } },
  batch = 4, optimizer = mp.sgd { lr = 4096 },
}
