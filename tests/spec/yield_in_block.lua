-- A block cannot be left half open by a coroutine.
local function forward(t)
  coroutine.wrap(function()
    mp.block("b", function() coroutine.yield(1) end)
  end)()
end

return mp.program {
  forward = forward,
  data = mp.tensors { image = { "f32", 784 } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
