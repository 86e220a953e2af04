-- Products of two activations, as in attention, with a residual stream through every stage and GELU.
local nn = require "nn"

local heads, time, features = 2, 4, 12

local function layer(name, x)
  return mp.block(name, function()
    local q = nn.linear("query", x, features)
    local k = nn.linear("key", x, features, { bias = false })
    local v = nn.linear("value", x, features)
    local scores = mp.matmul(q, k, { transpose = true })
    return x + nn.linear("out", mp.matmul(nn.softmax(scores * 0.3), v), features)
  end)
end
