-- Weights of several dims that stand for one, with their biases: sharded over tp on the first and on an inner such dim, which
-- few meshes divide, over their inputs, and on one in which the shards meet again.
local function layer(name, x, dims, shard, bias_shard)
  return mp.layer(name, function()
    local extents = { table.unpack(dims) }
    extents[#extents + 1] = x.shape[x.dims]
    local weight = mp.parameter("weight", extents, mp.normal(0, 0.3), { shard = shard })
    local bias = mp.parameter("bias", dims, mp.normal(0, 0.1), { shard = bias_shard })
    return mp.linear(x, weight) + bias
  end)
end

local function forward(t)                            -- t.x f32[batch,3,16], t.y f32[batch,3,8]
  local h = mp.relu(layer("first", t.x, { 4, 3, 2 }, 1, 1)) -- [batch,3,4,3,2]
  h = layer("join", mp.reshape(h, -1, 3, 24), { 10 }, 2)
  mp.cut()
  h = h + mp.reshape(mp.gelu(layer("inner", h, { 2, 5 }, 2, 2)), -1, 3, 10)
  mp.cut()
  h = mp.relu(layer("last", h, { 2, 2, 2 }, 4))
  local y = mp.reshape(h, -1, 3, 8)
  local d = y - t.y
  return { loss = mp.mean(d * d), outputs = { y = y } }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 3, 16 }, y = { "f32", 3, 8 } },
  batch = 64, optimizer = mp.sgd { lr = 0.05, momentum = 0.5 },
}
