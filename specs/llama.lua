-- LLaMA (Touvron et al., arXiv:2302.13971; Llama 3, arXiv:2407.21783): RMS norm, rotary positions, SwiGLU, grouped key and value
-- heads, names in files as transformers has them. Tensor parallelism as in gpt.lua.
local nn, hf = require "nn", require "hf"

local sizes = {
  ["1B"] = { layers = 16, width = 2048, heads = 32, kv_heads = 8, ff = 8192, tied = true },
  ["8B"] = { layers = 32, width = 4096, heads = 32, kv_heads = 8, ff = 14336, tied = false },
  ["70B"] = { layers = 80, width = 8192, heads = 64, kv_heads = 8, ff = 28672, tied = false },
  ["405B"] = { layers = 126, width = 16384, heads = 128, kv_heads = 8, ff = 53248, tied = false },
}
local size = mp.option("size", "1B", "1B, 8B, 70B or 405B; layers, width, heads, kv_heads and ff make any other")
local preset = sizes[size] or error(("there is no size '%s': 1B, 8B, 70B, 405B"):format(size))

local model = {
  layers = mp.option("layers", preset.layers, "decoder blocks"),
  width = mp.option("width", preset.width, "width of the residual stream"),
  heads = mp.option("heads", preset.heads, "query heads"),
  kv_heads = mp.option("kv_heads", preset.kv_heads, "key and value heads"),
  ff = mp.option("ff", preset.ff, "hidden units of the MLP"),
  vocab = mp.option("vocab", 128256, "tokens in the vocabulary"),
  context = mp.option("context", 2048, "positions of a sample"),
  loss_chunks = mp.option("loss_chunks", 1, "while training, logits are made for so many parts of the tokens, one after another"),
  dropout = mp.option("dropout", 0.0, "dropout of attention's weights, its results and the MLP's"),
  tied = mp.option("tied", preset.tied, "the head is the table of tokens"),
  rope = { theta = mp.option("theta", 500000.0, "base of the rotary angles") },
  eps = 1e-5,
}
local init = mp.normal(0, 0.02)

local function block(x)
  local norm = { eps = model.eps }
  local a = nn.self_attention("self_attn", nn.rms_norm("input_layernorm", x, norm), { heads = model.heads, kv_heads = model.kv_heads,
    bias = false, rope = model.rope, dropout = model.dropout, init = init, files = hf.llama.attention(model) })
  x = nn.residual(x + nn.residual(nn.dropout(nn.residual(a), model.dropout)))
  local y = nn.rms_norm("post_attention_layernorm", x, norm)
  local m = mp.scope("mlp", function()
    local gate_up = mp.parameter("gate_up_proj.weight", { 2, model.ff, model.width }, init, { shard = 2, files = hf.llama.gate_up(model.ff,
      model.width) })
    local down = mp.parameter("down_proj.weight", { model.width, model.ff }, init, { shard = 2 })
    return mp.linear(mp.swiglu(mp.linear(y, gate_up)), down)
  end)
  return nn.residual(x + nn.residual(nn.dropout(nn.residual(m), model.dropout)))
end

local function forward(t)                       -- t.tokens, t.labels i32[batch,context]
  local rows = (model.vocab + 127) // 128 * 128 -- whole tiles for the matrix units; the last rows are no tokens
  local function words(name, tied)
    return mp.parameter(name, { rows, model.width }, init, { shard = 1, files = hf.vocabulary(name, model.vocab, tied) })
  end
  local table = words("model.embed_tokens.weight", model.tied and "lm_head.weight" or nil)
  local x = nn.residual(mp.embedding(mp.transpose(t.tokens, 1, 2), table))
  for i = 0, model.layers - 1 do
    x = mp.block("model.layers." .. i, block, x)
  end
  x = nn.rms_norm("model.norm", x, { eps = model.eps })
  local head = model.tied and table or words("lm_head.weight")
  local logits = mp.linear(x, head)
  return {
    loss = mp.linear_cross_entropy(x, head, mp.transpose(t.labels, 1, 2), { classes = model.vocab, chunks = model.loss_chunks }),
    outputs = { logits = mp.transpose(logits, 1, 2) },
  }
end

return mp.program {
  forward = forward,
  data = mp.tokens { context = model.context, vocab = model.vocab },
  batch = 8, mesh = {},
  optimizer = mp.adamw { lr = mp.option("lr", 3e-4, "learning rate"), betas = { 0.9, 0.95 },
    weight_decay = mp.option("weight_decay", 0.1, "of matrices and tables, not of norms"),
    schedule = mp.option("schedule", "cosine", "constant, linear or cosine"), warmup = mp.option("warmup", 0, "steps"),
    min_lr = mp.option("min_lr", 0.0, "learning rate at the end"), clip = mp.option("clip", 1.0, "largest norm of the gradient") },
  files = hf.llama.files, config = hf.llama.config(model),
}
