-- reshape and flatten, of activations and of weights.
local function forward(t)                            -- t.x f32[batch,3,4], t.y f32[batch,2,6]
  local samples = t.x.shape[1]
  local gain = mp.parameter("gain", { 12 }, mp.normal(0.5, 0.5))
  local weight = mp.parameter("weight", { 2, 3, 2, 3 }, mp.normal(0, 0.6))
  local h = mp.flatten(t.x * t.x) * gain             -- [batch,12]
  h = mp.matmul(mp.reshape(h, samples * 2, 6), mp.reshape(weight, { 6, -1 }))
  local d = mp.reshape(h, samples, 2, 6) - t.y
  local other = mp.reshape(gain, 3, 4) * mp.reshape(mp.reshape(gain, 2, 6), 3, 4)
  return { loss = mp.mean(d * d) + mp.mean(other * other) }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 3, 4 }, y = { "f32", 2, 6 } },
  batch = 8, microbatches = 2, optimizer = mp.sgd { lr = 1 },
}
