-- Causal attention: groups of one query head, groups of three that share a key and a value, and a second use of the queries.
local function forward(t)                            -- t.x f32[batch,5,6], t.y f32[batch,5,4]
  local x = mp.reshape(t.x, 5, -1, 6)                -- as if sequences lay outermost: [5,batch,6]
  local one = mp.linear(x, mp.parameter("one", { 2, 3, 8, 6 }, mp.normal(0, 0.4)))
  local three = mp.linear(x, mp.parameter("three", { 2, 5, 8, 6 }, mp.normal(0, 0.4)))
  local a, b = mp.attention(one), mp.attention(three) -- [5,batch,2,1,8], [5,batch,2,3,8]
  local joined = mp.linear(mp.reshape(b, 5, -1, 48), mp.parameter("last", { 4, 48 }, mp.normal(0, 0.3)))
  local d = joined - mp.reshape(t.y, 5, -1, 4)
  return { loss = mp.mean(d * d) + mp.mean(a * a) + 0.1 * mp.mean(one * one) }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 5, 6 }, y = { "f32", 5, 4 } },
  batch = 8, optimizer = mp.sgd { lr = 1 },
}
