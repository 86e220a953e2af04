-- A small transformer, for runs on text that show the whole way: training, scores and generation.
local nn = require "nn"
local width, heads, context, vocab = 32, 4, mp.option("context", 16), mp.option("vocab", 256)

local function attention(x)
  return mp.layer("attn", function()
    local qkv = mp.parameter("qkv.weight", { heads, 3, width // heads, width }, mp.normal(0, 0.1), { shard = 1 })
    local proj = mp.parameter("proj.weight", { width, width }, mp.normal(0, 0.1), { shard = 2 })
    local y = mp.attention(mp.linear(x, qkv))
    return mp.linear(mp.reshape(y, x.shape[1], x.shape[2], width), proj)
  end)
end

local function forward(t)
  local x = nn.embedding("wte", mp.transpose(t.tokens, 1, 2), vocab, width, { shard = "vocab", init = mp.normal(0, 0.1) })
  x = x + mp.expand(mp.parameter("wpe.weight", { context, width }, mp.normal(0, 0.1)), 2, x.shape[2])
  for i = 0, 1 do
    mp.block("h" .. i, function()
      x = x + attention(nn.layer_norm("ln_1", x))
      local h = nn.gelu(nn.linear("fc", nn.layer_norm("ln_2", x), 4 * width, { shard = "column" }))
      x = x + nn.linear("proj", h, width, { shard = "row" })
    end)
  end
  local logits = nn.linear("head", nn.layer_norm("ln_f", x), vocab, { bias = false, shard = "column" })
  return { loss = mp.cross_entropy(logits, mp.transpose(t.labels, 1, 2)), outputs = { logits = mp.transpose(logits, 1, 2) } }
end

return mp.program {
  forward = forward,
  data = mp.tokens { context = context, vocab = vocab },
  batch = 8, microbatches = 2,
  optimizer = mp.sgd { lr = 0.3, momentum = 0.9 },
}
