-- Dropout of attention's weights: groups of one query head, and groups of three that share a key and a value, which another stage
-- has; more keys than one random number decides about.
local function forward(t)                            -- t.x f32[batch,11,6], t.y f32[batch,11,4]
  local x = mp.transpose(t.x, 1, 2)                  -- [11,batch,6]
  local one = mp.linear(x, mp.parameter("one", { 2, 3, 8, 6 }, mp.normal(0, 0.4)))
  local a = mp.attention(one, { dropout = 0.3 })     -- [11,batch,2,1,8]
  local h = mp.linear(mp.reshape(a, 11, -1, 16), mp.parameter("middle", { 6, 16 }, mp.normal(0, 0.4)))
  mp.cut()
  local three = mp.linear(h, mp.parameter("three", { 2, 5, 8, 6 }, mp.normal(0, 0.4)))
  local b = mp.attention(three, { dropout = 0.6 })   -- [11,batch,2,3,8]
  local joined = mp.linear(mp.reshape(b, 11, -1, 48), mp.parameter("last", { 4, 48 }, mp.normal(0, 0.3)))
  local d = joined - mp.transpose(t.y, 1, 2)
  return { loss = 10 * mp.mean(d * d) }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 11, 6 }, y = { "f32", 11, 4 } },
  batch = 8, microbatches = 2, optimizer = mp.sgd { lr = 1 },
}
