-- Images whose channels are split over tp and often not evenly: through pools of odd extents, groups, residuals across
-- cuts, a class of channels that is flattened while it is split, and means over heights.
local nn = require "nn"

local function forward(t)                            -- t.x f32[batch,3,9,7], t.kind i32[batch]
  local first = nn.silu(nn.conv2d("first", t.x, 7, 3, { padding = 1, shard = "column" }))
  local h = nn.max_pool2d(first, 3, { stride = 2, padding = 1 })                        -- [batch,7,5,4]
  h = nn.conv2d("second", h, 6, { 2, 3 }, { padding = { 1, 1 }, shard = "row" })        -- [batch,6,6,4]
  mp.cut()
  h = nn.tanh(nn.batch_norm2d("norm", h)) + nn.adaptive_avg_pool2d(mp.conv2d(first,
    mp.parameter("side", { 6, 7, 1, 1 }, mp.normal(0, 0.3))), { 6, 4 })
  h = nn.conv2d("grouped", h, 6, 3, { groups = 2, padding = 1, bias = false }) + h
  mp.cut()
  local deep = nn.conv2d("deep", h, 5, 2, { stride = 2, shard = "column" })             -- [batch,5,3,2]
  deep = nn.sigmoid(nn.batch_norm2d("deep_norm", deep, { shard = true, momentum = 0.3 })) * deep
  mp.cut()
  local rows = mp.mean(nn.avg_pool2d(deep, 2, { stride = 1, padding = 1 }), 3)          -- [batch,5,3]
  local logits = nn.linear("classes", nn.flatten(deep), 10, { shard = "row" }) + nn.linear("rows", nn.flatten(rows), 10)
  return { loss = mp.cross_entropy(logits, t.kind), accuracy = mp.accuracy(logits, t.kind), outputs = { logits = logits, deep = deep } }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 3, 9, 7 }, kind = { "i32" } },
  batch = 64, optimizer = mp.sgd { lr = 0.05, momentum = 0.9, weight_decay = 1e-3 },
}
