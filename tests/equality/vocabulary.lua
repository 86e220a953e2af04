-- A language model in small: tokens and positions looked up, blocks of a column/row pair on a residual stream with dropout,
-- and a head that is the table of tokens. tp splits the vocabulary, which it does not divide and whose last rows are padding,
-- and, with --sequence-parallel, what lies between the pairs by positions. The logits may be made chunk by chunk.
local nn = require "nn"
local chunks = mp.option("chunks", 1, "parts of the rows that logits are made for while training")
local vocabulary, rows, positions, width = 45, 47, 8, 12

local function forward(t)                            -- t.x i32[batch,8], t.y i32[batch,8]
  local h, table = nn.embedding("token", mp.transpose(t.x, 1, 2), rows, width, { shard = "vocab", init = mp.normal(0, 0.3) })
  local places = mp.parameter("position", { positions, width }, mp.normal(0, 0.1))
  h = nn.residual(nn.residual(h) + nn.residual(mp.expand(places, 2, t.x.shape[1])))
  h = nn.residual(nn.dropout(h, 0.1))
  for i = 1, 3 do
    h = mp.block("h." .. i, function()
      local y = nn.linear("up", nn.layer_norm("norm", h), 4 * width, { shard = "column" })
      y = nn.residual(nn.linear("down", nn.gelu(y), width, { shard = "row" }))
      return nn.residual(h + nn.residual(nn.dropout(y, 0.2)))
    end)
  end
  h = nn.layer_norm("last", h)
  local logits = mp.linear(h, table)                                            -- [8,batch,47]
  local label = mp.transpose(t.y, 1, 2)
  return {
    loss = mp.linear_cross_entropy(h, table, label, { classes = vocabulary, chunks = chunks }),
    accuracy = mp.accuracy(logits, label, { classes = vocabulary }),
    outputs = { logits = mp.transpose(logits, 1, 2) },
  }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "i32", positions }, y = { "i32", positions } },
  batch = 64, optimizer = mp.sgd { lr = 0.3, momentum = 0.5 },
}
