-- silu of activations and of weights, and of what another silu gave.
local function forward(t)                            -- t.x f32[batch,3,5], t.y f32[batch,3,5]
  local gain = mp.parameter("gain", { 5 }, mp.normal(1, 0.5))
  local table = mp.parameter("table", { 3, 5 }, mp.normal(0, 2))
  local d = mp.silu(t.x * gain) * mp.silu(mp.silu(table)) - t.y
  local e = mp.silu(gain) - 1
  return { loss = 10 * mp.mean(d * d) + mp.mean(e * e * e) }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 3, 5 }, y = { "f32", 3, 5 } },
  batch = 8, microbatches = 2, optimizer = mp.sgd { lr = 1 },
}
