-- run: --mesh pp=2 --microbatches 4 --recompute selective
-- keep: program_0.cu dump:recompute
-- Norms, GELU and dropout that the backward pass makes again, in loops of equal layers; the calls say so.
local nn = require "nn"

local function residual(x)                           -- x f32[batch,8]
  local h = nn.dropout(nn.gelu(nn.linear("up", nn.layer_norm("norm", x), 32)), 0.25)
  return x + nn.linear("down", h, 8)
end

local function forward(t)                            -- t.x f32[batch,8], t.y f32[batch,8]
  local h = t.x
  for k = 1, 4 do
    h = mp.block(("h.%d"):format(k), residual, h)
  end
  return { loss = nn.mse(h, t.y), outputs = { y = h } }
end

return mp.program {
  forward = forward, data = mp.tensors { x = { "f32", 8 }, y = { "f32", 8 } }, batch = 16,
  optimizer = mp.sgd { lr = 0.1 },
}
