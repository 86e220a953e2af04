-- Operands of equal shapes, shorter ones on either side, a scalar tensor and numbers.
local function forward(t)                            -- t.x f32[batch,3,4]
  local a = mp.parameter("a", { 3, 4 }, mp.uniform(1, 2))
  local b = mp.parameter("b", { 4 }, mp.uniform(1, 2))
  local c = mp.parameter("c", { 3, 4 }, mp.uniform(1, 2))
  local y = (t.x + 2) + a
  y = b + y                                         -- the shorter operand first
  y = (y * y) + (a + c)                            -- equal shapes, both of parameters
  y = (1.5 + y) + mp.mean(b)                       -- a number, a scalar
  y = (y + (y * y + c)) + 0.75
  return { loss = mp.mean(y * y), outputs = { y = y } }
end

return mp.program {
  forward = forward, data = mp.tensors { x = { "f32", 3, 4 } }, batch = 4, mesh = {}, optimizer = mp.sgd { lr = 1 },
}
