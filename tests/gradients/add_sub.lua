-- add and sub: equal shapes, either operand the smaller one, scalars, numbers, and one tensor as both operands.
local function forward(t)                            -- t.x f32[batch,3,4]
  local row = mp.parameter("row", { 4 }, mp.normal(0, 0.5))
  local matrix = mp.parameter("matrix", { 3, 4 }, mp.normal(0, 0.5))
  local other = mp.parameter("other", { 3, 4 }, mp.normal(0, 0.5))
  local one = mp.parameter("one", { 1 }, mp.constant(0.7))
  local scalar = mp.sum(one * one)
  local terms = {
    t.x + row, row + t.x, t.x - row, row - t.x,
    t.x + matrix, matrix + t.x, t.x - matrix, matrix - t.x,
    matrix + other, matrix - other, matrix + row, row - matrix, matrix - row,
    t.x + scalar, scalar - t.x, t.x - scalar, scalar - row,
    3 - matrix, matrix - 3, 2 + row, other + other,
  }
  local loss = mp.sum((scalar - matrix) * (other - other + 1))
  for i, term in ipairs(terms) do
    loss = loss + mp.mean(term * term * (term + i)) * 0.2
  end
  return { loss = loss }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 3, 4 } },
  batch = 8, optimizer = mp.sgd { lr = 1 },
}
