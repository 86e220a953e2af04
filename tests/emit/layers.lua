-- run: --mesh dp=2,tp=2,pp=2 --microbatches 4
-- keep: program_0.cu memory.h
-- Equal layers: one function each for forward, backward and update of all of them, and accessors with a layer's number.
local nn = require "nn"

local function residual(x)                           -- x f32[batch,8]
  local h = nn.dropout(nn.gelu(nn.linear("up", x, 12, { shard = "column" })), 0.25)
  return x + nn.linear("down", h, 8, { shard = "row" })
end

local function forward(t)                            -- t.x f32[batch,5], t.y f32[batch,3]
  local h = nn.linear("first", t.x, 8)
  for k = 1, 6 do
    h = mp.block(("h.%d"):format(k), residual, h)
  end
  local y = nn.linear("last", h, 3)
  return { loss = nn.mse(y, t.y), outputs = { y = y } }
end

return mp.program {
  forward = forward, data = mp.tensors { x = { "f32", 5 }, y = { "f32", 3 } }, batch = 16,
  optimizer = mp.sgd { lr = 0.1, momentum = 0.9 },
}
