-- sub: equal shapes, either operand the smaller one, scalars, numbers, and one tensor as both operands.
local function forward(t)                            -- t.x f32[batch,3,4]
  local row = mp.parameter("row", { 4 }, mp.normal(0, 0.5))
  local matrix = mp.parameter("matrix", { 3, 4 }, mp.normal(0, 0.5))
  local other = mp.parameter("other", { 3, 4 }, mp.normal(0, 0.5))
  local scalar = mp.mean(other * other)
  local h = t.x - matrix                             -- gradients of both operands of h - row and row - h
  local terms = { h, row - t.x, h - row, row - h, matrix - t.x, matrix - other, row - matrix, matrix - row,
    h - scalar, scalar - h, scalar - row, row - scalar, 2 - other, other - 3, (other - other) - h }
  local loss = mp.mean(h)
  for i, term in ipairs(terms) do
    loss = loss + mp.mean(term * term * (term + i)) * 0.2
  end
  return { loss = loss }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 3, 4 } },
  batch = 8, microbatches = 2, optimizer = mp.sgd { lr = 1 },
}
