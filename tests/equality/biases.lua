-- Biases in front of a residual addition with a norm behind it, whose gradients are summed by the kernel of the norm's gradient: of so many
-- rows that their chunks are added up by one launch with those of the norm's own gradients; of a tensor that is shared out over tp or
-- not; twice of the same rows; and of what another block makes, which are summed apart.
local nn = require "nn"

local function weight(name, dims)
  return mp.parameter(name, dims, mp.normal(0, 0.3))
end

local function forward(t)                            -- t.x f32[batch,12], t.kind i32[batch]
  local h = mp.linear(weight("positions", { 130, 5 }), mp.linear(t.x, weight("embed", { 8, 5, 12 })))  -- [130,batch,8]
  h = mp.block("first", function(h)
    h = mp.constrain(h + nn.linear("a", mp.tanh(h), 8), { tp = 1 })
    return h + nn.linear("b", nn.layer_norm("n1", h), 8)
  end, h)
  mp.cut()
  h = mp.block("second", function(h)
    h = h + nn.linear("c", nn.rms_norm("n2", h), 8) + mp.parameter("shift", { 8 }, mp.zeros)
    return h + nn.linear("e", mp.relu(nn.linear("d", nn.rms_norm("n3", h), 24, { shard = "column" })), 8, { shard = "row" })
  end, h)
  mp.cut()
  local mean = mp.mean(nn.layer_norm("last", h), 1)                                           -- [batch,8]
  local logits = nn.linear("classes", mean, 10)
  return { loss = mp.cross_entropy(logits, t.kind), accuracy = mp.accuracy(logits, t.kind), outputs = { logits = logits } }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 12 }, kind = { "i32" } },
  batch = 64, optimizer = mp.sgd { lr = 0.1, momentum = 0.5, weight_decay = 1e-3 },
}
