-- A layer with the parameters of a transformer, on single vectors, with the names and layouts of GPT-2 or LLaMA in files.
-- Its numbers are no transformer's: cases.py computes the same from the files.
local hf = require "hf"
local nn = require "nn"

local family = mp.option("family", "llama", "gpt2 or llama")
local words, padded, width, heads, ff = 13, 16, 8, 4, 10
local groups = mp.option("groups", 4, "key and value heads")
local head, rows = width // heads, heads // groups + 2
local gpt2 = family == "gpt2"

local function weight(name, dims, options)
  return mp.parameter(name, dims, mp.normal(0, 0.5), options)
end

local function attention(x)
  local files = (gpt2 and hf.gpt2 or hf.llama).attention { heads = heads, kv_heads = groups, width = width }
  local y = mp.linear(x, weight("qkv.weight", { groups, rows, head, width }, { shard = 1, files = files.qkv }))
  if gpt2 then
    y = y + weight("qkv.bias", { groups, rows, head }, { shard = 1, files = files.qkv_bias })
  end
  y = mp.tanh(mp.reshape(y, y.shape[1], groups * rows * head))
  return mp.linear(y, weight("mix.weight", { width, groups * rows * head }, { shard = 2 }))
end

local function mlp(x)
  if gpt2 then
    local y = mp.tanh(nn.linear("c_fc", x, ff, { shard = "column", bias = false, init = mp.normal(0, 0.5),
      files = { weight = hf.transposed("weight") } }))
    return mp.linear(y, weight("c_proj.weight", { width, ff }, { shard = 2, files = hf.transposed("c_proj.weight") }))
  end
  local y = mp.swiglu(mp.linear(x, weight("gate_up.weight", { 2, ff, width }, { shard = 2, files = hf.llama.gate_up(ff, width) })))
  return mp.linear(y, weight("down_proj.weight", { width, ff }, { shard = 2 }))
end

local function forward(t)
  local h = t.x
  h = mp.block(gpt2 and "h.0.attn" or "model.layers.0.self_attn", attention, h)
  h = mp.block(gpt2 and "h.0.mlp" or "model.layers.0.mlp", mlp, h)
  local name = gpt2 and "wte" or "model.embed_tokens"
  local logits = mp.block(name, function()
    return mp.linear(h, weight("weight", { padded, width }, { shard = 1, files = hf.vocabulary("weight", words, "lm_head.weight") }))
  end)
  return { loss = mp.mean(logits * logits) }
end

local shape = { vocab = words, context = 32, width = width, layers = 1, heads = heads, kv_heads = groups, ff = ff, tied = true }
return mp.program {
  forward = forward, data = mp.tensors { x = { "f32", width } },
  batch = 8, microbatches = 2, optimizer = mp.sgd { lr = 0.005, momentum = 0.9 },
  files = gpt2 and hf.gpt2.files or hf.llama.files,
  config = gpt2 and hf.gpt2.config(shape) or hf.llama.config(shape),
}
