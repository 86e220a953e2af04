-- div: equal shapes, either operand the smaller one, scalars, numbers, and one tensor as both operands.
local function forward(t)                            -- t.x f32[batch,3,4]
  local row = mp.parameter("row", { 4 }, mp.uniform(1, 2))
  local matrix = mp.parameter("matrix", { 3, 4 }, mp.uniform(1, 2))
  local other = mp.parameter("other", { 3, 4 }, mp.uniform(-2, -1))
  local scalar = mp.mean(matrix * matrix)
  local h = 1 + t.x * t.x * matrix                   -- at least 1
  local terms = { h / row, row / h, h / matrix, matrix / h, h / h, matrix / other, matrix / row, row / matrix,
    h / scalar, scalar / h, scalar / row, row / scalar, 2 / other, matrix / 3, -1 / h, (matrix / matrix) / h }
  local loss = mp.mean(h) / mp.mean(row)
  for i, term in ipairs(terms) do
    loss = loss + mp.mean(term * (term + i)) * 0.1
  end
  return { loss = loss }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 3, 4 } },
  batch = 8, microbatches = 2, optimizer = mp.sgd { lr = 1 },
}
