-- Ids must be whole numbers.
local nn = require "nn"

return mp.program {
  forward = function(t)
    return { loss = mp.mean(nn.embedding("token", t.x, 10, 4)) }
  end,
  data = mp.tensors { x = { "f32", 3 } }, batch = 8, optimizer = mp.sgd { lr = 1 },
}
