-- Norms, rotary position embeddings and gated units, with positions outermost as in language models and shared out over tp
-- where nothing else is (7 do not divide); groups of heads and gated units over tp, which these do not divide either; rotary
-- embeddings of samples, whose shards begin at other positions.
local nn = require "nn"

local function weight(name, dims, shard)
  return mp.parameter(name, dims, mp.normal(0, 0.3), { shard = shard })
end

local function forward(t)                            -- t.x f32[batch,12], t.kind i32[batch]
  local h = mp.linear(weight("positions", { 7, 5 }), mp.linear(t.x, weight("embed", { 16, 5, 12 })))  -- [7,batch,16]
  h = mp.constrain(h, { tp = 1 })
  local heads = mp.linear(nn.layer_norm("ln1", h, { bias = false }), weight("heads", { 3, 4, 6, 16 }, 1)) -- [7,batch,3,4,6]
  local turned = mp.rope(mp.constrain(heads, { tp = 3 }), { theta = 100 })
  h = mp.constrain(h + mp.linear(mp.reshape(turned, 7, -1, 72), weight("join", { 16, 72 }, 2)), { tp = 1 })
  mp.cut()
  local few = mp.constrain(mp.linear(h, weight("few", { 1, 3, 4, 16 })), { tp = 1 })
  local scaling = { factor = 4, low_freq_factor = 1, high_freq_factor = 3, original = 5 }
  local shift = mp.sum(mp.rope(few, { theta = 9, scaling = scaling }), { 3, 5 })              -- [7,batch]
  local up = mp.linear(nn.rms_norm("ln2", h, { eps = 0.01 }), weight("up", { 2, 9, 16 }, 2))  -- [7,batch,2,9]
  local gated = mp.swiglu(mp.constrain(up, { tp = 4 }))
  h = mp.constrain(h + nn.linear("down", gated, 16, { shard = "row" }), { tp = 1 })
  mp.cut()
  local mean = mp.mean(nn.layer_norm("last", h), 1)                                           -- [batch,16]
  local samples = mp.rope(mp.linear(mp.reshape(mean, -1, 1, 16), weight("samples", { 2, 3, 4, 16 })))
  local logits = nn.linear("classes", mp.flatten(samples), 10)
  local penalty = mp.mean(mp.tanh(shift * 0.1))
  return {
    loss = { mp.cross_entropy(logits, t.kind), penalty * 0.01 }, accuracy = mp.accuracy(logits, t.kind),
    outputs = { logits = logits },
  }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 12 }, kind = { "i32" } },
  batch = 64, optimizer = mp.sgd { lr = 0.1, momentum = 0.5, weight_decay = 1e-3 },
}
