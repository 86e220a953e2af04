-- gpt: the decoder of GPT-2 and GPT-3: learned positions, layer norm before each part, GELU, and a head that is the table of tokens.
--
-- Tensor parallelism as Megatron-LM does it: heads and the hidden units of the MLP lie over tp, the table of tokens by its
-- rows, so that each part ends in one sum. Activations are [T,B,width]. Names in files are GPT-2's of transformers.
local nn, hf = require "nn", require "hf"

local gpt = {}

-- Options of a spec: model = { layers, width, heads, context } is what `-D size=…` stands for.
function gpt.options(model)
  return {
    layers = mp.option("layers", model.layers, "decoder blocks"),
    width = mp.option("width", model.width, "width of the residual stream"),
    heads = mp.option("heads", model.heads, "attention heads"),
    vocab = mp.option("vocab", 50257, "tokens in the vocabulary"),
    context = mp.option("context", model.context, "positions of a sample"),
    loss_chunks = mp.option("loss_chunks", 1, "while training, logits are made for so many parts of the tokens, one after another"),
    dropout = mp.option("dropout", 0.0, "dropout of embeddings, attention's weights, its results and the MLP's"),
    bias = mp.option("bias", true, "linear layers and norms have biases, as GPT-2's do"),
  }
end

-- Two parts of each layer add to the stream: their weights start smaller, so that its variance does not grow with depth.
local function inits(model)
  return mp.normal(0, 0.02), mp.normal(0, 0.02 / math.sqrt(2 * model.layers))
end

local function block(x, model)
  local init, into_stream = inits(model)
  local norm = { bias = model.bias }
  local a = nn.self_attention("attn", nn.layer_norm("ln_1", x, norm), { heads = model.heads, init = init, out_init = into_stream,
    bias = model.bias, dropout = model.dropout, files = hf.gpt2.attention(model) })
  x = nn.residual(x + nn.residual(nn.dropout(nn.residual(a), model.dropout)))
  local m = nn.linear("mlp.c_fc", nn.layer_norm("ln_2", x, norm), 4 * model.width, { shard = "column", init = init,
    bias = model.bias, bias_init = mp.zeros, bias_decay = false, files = { weight = hf.transposed("weight") } })
  m = nn.linear("mlp.c_proj", nn.gelu(m, "tanh"), model.width, { shard = "row", init = into_stream, bias = model.bias,
    bias_init = mp.zeros, bias_decay = false, files = { weight = hf.transposed("weight") } })
  return nn.residual(x + nn.residual(nn.dropout(nn.residual(m), model.dropout)))
end

-- t: tokens and labels i32 [B,T].
function gpt.forward(t, model)
  local init = inits(model)
  local rows = (model.vocab + 127) // 128 * 128                 -- whole tiles for the matrix units; the last rows are no tokens
  local wte = mp.parameter("wte.weight", { rows, model.width }, init, { shard = 1, files = hf.vocabulary("wte.weight", model.vocab,
    "lm_head.weight") })
  local wpe = mp.parameter("wpe.weight", { model.context, model.width }, init)
  local tokens = mp.transpose(t.tokens, 1, 2)
  local x = nn.residual(mp.embedding(tokens, wte)) + nn.residual(mp.expand(wpe, 2, tokens.shape[2]))
  x = nn.residual(nn.dropout(nn.residual(x), model.dropout))
  for i = 0, model.layers - 1 do
    x = mp.block("h." .. i, block, x, model)
  end
  x = nn.layer_norm("ln_f", x, { bias = model.bias })
  local logits = mp.linear(x, wte)       -- [T,B,rows]
  return {
    loss = mp.linear_cross_entropy(x, wte, mp.transpose(t.labels, 1, 2), { classes = model.vocab, chunks = model.loss_chunks }),
    outputs = { logits = mp.transpose(logits, 1, 2) },
  }
end

-- The rest of a GPT's program: data, AdamW as GPT-2 was trained, files.
function gpt.program(name, model)
  return mp.program {
    name = name, forward = function(t) return gpt.forward(t, model) end,
    data = mp.tokens { context = model.context, vocab = model.vocab },
    batch = 16, mesh = {},
    optimizer = mp.adamw { lr = mp.option("lr", 6e-4, "learning rate"), betas = { 0.9, mp.option("beta2", 0.95, "AdamW's second beta") },
      weight_decay = mp.option("weight_decay", 0.1, "of matrices and tables, not of biases and norms"),
      schedule = mp.option("schedule", "cosine", "constant, linear or cosine"), warmup = mp.option("warmup", 0, "steps"),
      min_lr = mp.option("min_lr", 0.0, "learning rate at the end"), clip = mp.option("clip", 1.0, "largest norm of the gradient") },
    files = hf.gpt2.files, config = hf.gpt2.config(model),
  }
end

return gpt
