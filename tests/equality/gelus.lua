-- GELU behind products, which a library call computes: in Megatron's pair of layers, without a bias, of products that a residual
-- reads as well, and, over rows that are no multiple of 8, behind the call.
local nn = require "nn"

local function pair(name, x, width, options)
  return mp.block(name, function()
    local h = nn.gelu(nn.linear("up", x, width, { shard = "column", bias = options.bias }), "tanh")
    return x + nn.linear("down", h, x.shape[x.dims], { shard = "row" })
  end)
end

local function forward(t)                            -- t.x f32[batch,2,16], t.y f32[batch,2,16]
  local h = pair("first", t.x, 48, {})
  h = pair("no_bias", h, 48, { bias = false })
  h = mp.block("residual", function()
    local read_again = nn.linear("linear", h, 16)
    return read_again + nn.linear("down", nn.gelu(read_again, "tanh"), 16)
  end)
  h = pair("odd", h, 36, {})
  local y = nn.gelu(nn.linear("last", h, 16, { bias = false }), "tanh")
  local d = y - t.y
  return { loss = mp.mean(d * d), outputs = { y = y } }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 2, 16 }, y = { "f32", 2, 16 } },
  batch = 64, optimizer = mp.sgd { lr = 0.05, momentum = 0.5 },
}
