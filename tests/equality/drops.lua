-- Dropout of activations and of images, whole and split over tp, in several stages: every plan drops the same elements.
-- Batch norm over all replicas.
local nn = require "nn"

local function forward(t)                            -- t.x f32[batch,2,6,5], t.kind i32[batch]
  local h = nn.conv2d("first", nn.dropout(t.x, 0.1), 5, 3, { shard = "column" })        -- [batch,5,4,3]
  h = nn.dropout(nn.relu(nn.batch_norm2d("norm", h, { shard = true, sync = true })), 0.3)
  mp.cut()
  h = nn.dropout(nn.conv2d("second", h, 6, 2, { shard = "row" }), 0.2)                  -- [batch,6,3,2]
  h = nn.dropout(nn.linear("wide", nn.flatten(nn.batch_norm2d("deep", h, { sync = true })), 21, { shard = "column" }), 0.5)
  mp.cut()
  local logits = nn.linear("classes", nn.gelu(h), 10, { shard = "row" })
  return { loss = mp.cross_entropy(logits, t.kind), accuracy = mp.accuracy(logits, t.kind), outputs = { logits = logits } }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 2, 6, 5 }, kind = { "i32" } },
  batch = 64, optimizer = mp.sgd { lr = 0.05, momentum = 0.9, weight_decay = 1e-3 },
}
