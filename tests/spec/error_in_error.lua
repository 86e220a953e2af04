-- Errors in handlers, errors that are tables, and deep nesting end with a message.
local function forward(t)
  xpcall(error, function(e) error(e) end)
  print(pcall(load, ("("):rep(1000) .. "1"))
  print((pcall(coroutine.wrap(function() local function f() return coroutine.wrap(f)() end f() end))))
  error(setmetatable({}, { __tostring = function() return "a table with a text" end }))
end

return mp.program {
  forward = forward,
  data = mp.tensors { image = { "f32", 784 } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
