-- Token data: ids and the ids behind them; the logits may have classes that are padding.
local function forward(t)
  local logits = mp.parameter("logits", { 4, 16, 300 }, mp.normal(0, 0.02))
  return { loss = mp.cross_entropy(logits, t.labels) }
end

return mp.program {
  forward = forward,
  data = mp.tokens { context = 16, vocab = 257 },
  batch = 4, optimizer = mp.sgd { lr = 0.1 },
}
