-- hf: how weights lie in the files of Hugging Face's transformers: the `files` of parameters, the names of files of
-- weights, and config.json, for GPT-2 and LLaMA.
--
-- The layers of nn keep what belongs together in one parameter: queries, keys and values as [groups, queries + 2, head, in],
-- gate and up as [2, ff, in], so that tp splits them by whole heads. Names here are relative to the layer that makes the
-- parameter, as the parameter's own name is; a layer called as in the files ("attn", "self_attn", "mlp") needs no more.
local hf = { gpt2 = {}, llama = {} }

-- A weight [out, in] that files have as [in, out].
function hf.transposed(name)
  return { { name = name, order = { 2, 1 } } }
end

-- A table of so many words, of which the parameter may have more: the others are padding. tied: the name under which files
-- may have it a second time, "lm_head.weight".
function hf.vocabulary(name, words, tied)
  return { { name = name, dim = 1, from = 1, to = words, tied = tied } }
end

-- Extents of the weight [groups, rows, head, width] of attention, from options heads, kv_heads, head and width.
local function extents(options)
  local groups = options.kv_heads or options.heads
  return groups, options.heads // groups + 2, options.head or options.width // options.heads, options.width
end

-- ---- GPT-2: projections [in, out]; c_attn has the queries of all heads, then the keys, then the values

-- The files of nn.self_attention. options: heads, width, head (width / heads).
function hf.gpt2.attention(options)
  local groups, rows, head, width = extents(options)
  if rows ~= 3 then
    mp.fail("hf.gpt2.attention: GPT-2 has a key and a value for each of its heads: kv_heads must be heads")
  end
  return {
    qkv = { { name = "c_attn.weight", order = { 4, 2, 1, 3 }, shape = { width, 3 * groups * head } } },
    qkv_bias = { { name = "c_attn.bias", order = { 2, 1, 3 }, shape = { 3 * groups * head } } },
    proj = hf.transposed("c_proj.weight"),
    proj_bias = { { name = "c_proj.bias" } },
  }
end

-- files of mp.program: published files have the names of GPT2Model, GPT2LMHeadModel's begin with "transformer.". The
-- masks of older versions are no weights.
hf.gpt2.files = { prefix = "transformer.", ignore = { "h.*.attn.bias", "h.*.attn.masked_bias" } }

-- config of mp.program. options: vocab, context, width, layers, heads, dropout (0), eps (1e-5).
function hf.gpt2.config(options)
  local last = math.min(50256, options.vocab - 1)       -- <|endoftext|>, the last of the published vocabulary
  return {
    model_type = "gpt2", architectures = { "GPT2LMHeadModel" },
    vocab_size = options.vocab, n_positions = options.context, n_embd = options.width, n_layer = options.layers,
    n_head = options.heads, activation_function = "gelu_new", layer_norm_epsilon = options.eps or 1e-5,
    attn_pdrop = options.dropout or 0.0, embd_pdrop = options.dropout or 0.0, resid_pdrop = options.dropout or 0.0,
    tie_word_embeddings = true, bos_token_id = last, eos_token_id = last, torch_dtype = "float32",
  }
end

-- ---- LLaMA: projections [out, in], one for queries, keys, values, gate and up each

-- The files of nn.self_attention. options: heads, kv_heads (heads), width, head (width / heads).
function hf.llama.attention(options)
  local groups, rows, head, width = extents(options)
  local function part(name, from, to)
    local count = groups * (to - from + 1) * head
    return { name = name .. ".weight", dim = 2, from = from, to = to, shape = { count, width } },
      { name = name .. ".bias", dim = 2, from = from, to = to, shape = { count } }
  end
  local q, q_bias = part("q_proj", 1, rows - 2)
  local k, k_bias = part("k_proj", rows - 1, rows - 1)
  local v, v_bias = part("v_proj", rows, rows)
  return { qkv = { q, k, v }, qkv_bias = { q_bias, k_bias, v_bias }, proj = { { name = "o_proj.weight" } },
    proj_bias = { { name = "o_proj.bias" } } }
end

-- The files of a weight [2, ff, in] of mp.swiglu.
function hf.llama.gate_up(ff, width)
  local shape = { ff, width }
  return { { name = "gate_proj.weight", dim = 1, from = 1, to = 1, shape = shape },
    { name = "up_proj.weight", dim = 1, from = 2, to = 2, shape = shape } }
end

-- files of mp.program, for names that begin with "model.": those of LlamaModel lack that.
hf.llama.files = { prefix = "model.", ignore = { "*.rotary_emb.inv_freq" } }

-- config of mp.program. options: vocab, context, width, layers, heads, kv_heads (heads), head (width / heads), ff,
-- eps (1e-5), tied (false), bias (false), rope = { theta (10000), scaling = { factor, low_freq_factor, high_freq_factor,
-- original } }.
function hf.llama.config(options)
  local rope = options.rope or {}
  local scaling = rope.scaling and {
    rope_type = "llama3", factor = rope.scaling.factor, low_freq_factor = rope.scaling.low_freq_factor,
    high_freq_factor = rope.scaling.high_freq_factor, original_max_position_embeddings = rope.scaling.original,
  }
  return {
    model_type = "llama", architectures = { "LlamaForCausalLM" },
    vocab_size = options.vocab, max_position_embeddings = options.context, hidden_size = options.width,
    intermediate_size = options.ff, num_hidden_layers = options.layers, num_attention_heads = options.heads,
    num_key_value_heads = options.kv_heads or options.heads, head_dim = options.head or options.width // options.heads,
    hidden_act = "silu", rms_norm_eps = options.eps or 1e-5, rope_theta = rope.theta or 10000.0, rope_scaling = scaling,
    tie_word_embeddings = options.tied or false, attention_bias = options.bias or false, mlp_bias = false,
    torch_dtype = "float32",
  }
end

return hf
