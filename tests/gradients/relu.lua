-- relu: alone, after a bias, twice in a row, and of a weight.
local function forward(t)                            -- t.x f32[batch,3,5]
  local row = mp.parameter("row", { 5 }, mp.normal(0, 1))
  local gain = mp.parameter("gain", { 3, 5 }, mp.normal(1, 0.5))
  local h = mp.relu(t.x * gain)
  local twice = mp.relu(mp.relu(h + row) - 0.2)
  local d = h + 2 * twice - 1
  local e = mp.relu(row)
  return { loss = mp.mean(d * d) + mp.mean(e * e) }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 3, 5 } },
  batch = 8, microbatches = 2, optimizer = mp.sgd { lr = 1 },
}
