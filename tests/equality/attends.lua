-- Causal attention over tp, where shards are whole groups of heads: with a query head for each key, and with three. Samples lie
-- in the second dim, as in language models: a table of positions times a table of each sample gives such tensors. With dropout,
-- every plan drops the same weights.
local dropout = mp.option("dropout", 0.0, "of attention's weights")

local function layer(name, positions, sample, queries)
  return mp.layer(name, function()
    local features = sample.shape[2]
    local weight = mp.parameter("weight", { 4, queries + 2, 8, 5, features }, mp.normal(0, 0.3), { shard = 1 })
    local bias = mp.parameter("bias", { 4, queries + 2, 8 }, mp.normal(0, 0.1), { shard = 1 })
    local qkv = mp.linear(positions, mp.linear(sample, weight)) + bias          -- [7,batch,4,queries+2,8]
    local heads = mp.reshape(mp.attention(qkv, { dropout = dropout }), 7, -1, 4 * queries * 8)
    local join = mp.parameter("join", { features, 4 * queries * 8 }, mp.normal(0, 0.1), { shard = 2 })
    return mp.linear(heads, join)                                               -- [7,batch,features]
  end)
end

local function forward(t)                            -- t.x f32[batch,12], t.y f32[batch,12]
  local positions = mp.parameter("positions", { 7, 5 }, mp.normal(0, 1))
  local h = layer("first", positions, t.x, 1)
  mp.cut()
  local sums = mp.mean(h, 1)                         -- [batch,12]
  local again = layer("second", positions, sums, 3) + h
  mp.cut()
  local d = again - t.y
  return { loss = mp.mean(d * d), outputs = { y = mp.mean(again, 1) } }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 12 }, y = { "f32", 12 } },
  batch = 64, optimizer = mp.sgd { lr = 0.05, momentum = 0.5 },
}
