-- sum and mean over the first, middle, last dims, over ranges of dims and over all, of activations and of weights.
local function forward(t)                            -- t.x f32[batch,2,3,4]
  local gain = mp.parameter("gain", { 2, 3, 4 }, mp.normal(0.5, 0.5))
  local shift = mp.parameter("shift", { 2, 3, 4 }, mp.normal(0, 0.5))
  local h = t.x * gain + shift
  local terms = {
    mp.mean(h, 2), mp.sum(h, 3), mp.mean(h, -1),     -- one dim
    mp.sum(h, { 2, 3 }), mp.mean(h, { 3, 4 }), mp.sum(h, { 2, 4 }),
    mp.sum(gain, 1), mp.mean(gain, 2), mp.sum(shift, -1), mp.mean(gain * shift, { 1, 2 }),
  }
  local loss = mp.mean(h * h) + mp.sum(shift * shift) * mp.mean(gain)
  for _, term in ipairs(terms) do
    loss = loss + mp.mean(term * term) * 0.2
  end
  return { loss = loss }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 2, 3, 4 } },
  batch = 8, microbatches = 2, optimizer = mp.sgd { lr = 1 },
}
