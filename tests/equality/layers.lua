-- Residual blocks that are alike, a pair of column and row in each, with dropout: emitted once, for all layers.
local nn = require "nn"

local layers = mp.option("layers", 6, "residual blocks")
local odd = mp.option("odd", 0, "the block that differs, 0: none does")
local before = mp.option("before", 1, "a block adds what this many blocks before it gave")

local function residual(x, added, width, activation) -- x, added f32[batch,16]
  local h = nn.dropout(activation(nn.linear("up", x, width, { shard = "column" })), 0.25)
  return added + nn.dropout(nn.linear("down", h, 16, { shard = "row" }), 0.1)
end

local function forward(t)                            -- t.x f32[batch,10], t.y f32[batch,3]
  local h = { [0] = nn.linear("first", t.x, 16) }
  for k = 1, layers do
    local added = h[math.max(k - before, 0)]
    h[k] = mp.block(("h.%d"):format(k), residual, h[k - 1], added, k == odd and 20 or 24, k == odd and nn.relu or nn.gelu)
  end
  local y = nn.linear("last", h[layers], 3)
  return { loss = nn.mse(y, t.y), outputs = { y = y } }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 10 }, y = { "f32", 3 } },
  batch = 64, optimizer = mp.sgd { lr = 0.05, momentum = 0.9, weight_decay = 1e-3 },
}
