-- Pieces are a list.
local function forward(t)                            -- t.x f32[8,6]
  local w = mp.parameter("w", { 4, 6 }, mp.zeros, { files = { name = "w" } })
  local v = mp.parameter("v", { 4, 6 }, mp.zeros)
  return { loss = mp.mean(mp.linear(t.x, w) + mp.linear(t.x, v)) }
end

return mp.program {
  forward = forward, data = mp.tensors { x = { "f32", 6 } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
