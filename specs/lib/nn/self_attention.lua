-- nn.self_attention: causal attention of a sequence on itself, with grouped key and value heads.
local arguments = require "nn.arguments"
local inits = require "nn.inits"

local known = { "heads", "kv_heads", "head", "bias", "rope", "dropout", "init", "out_init", "files" }

local function check(name, x, options)
  arguments.input("nn.self_attention", name, x)
  mp.check_fields("nn.self_attention", options, known)
  if x.dims ~= 3 then
    mp.fail(("nn.self_attention: '%s' needs [positions,samples,width], not %s"):format(name, tostring(x)))
  end
  local heads = arguments.positive("nn.self_attention", name, "number of heads", options.heads)
  local groups = arguments.positive("nn.self_attention", name, "number of kv_heads", options.kv_heads or heads)
  if heads % groups ~= 0 then
    mp.fail(("nn.self_attention: '%s' has %d heads, which %d kv_heads do not divide"):format(name, heads, groups))
  end
  if not options.head and x.shape[3] % heads ~= 0 then
    mp.fail(("nn.self_attention: '%s' has a width of %d, which %d heads do not divide"):format(name, x.shape[3], heads))
  end
  return heads, groups, options.head or x.shape[3] // heads
end

-- x [T,B,width] -> [T,B,width]. One product makes queries, keys and values: its weight is [groups, queries + 2, head, width],
-- for each group of heads its queries, its key and its value, so that tp splits it by whole groups.
-- options: heads, kv_heads (heads), head (width / heads): elements of a head, bias (true), rope: options of mp.rope, or nil
-- for none, dropout (0): of the weights of attention, init and out_init of the two weights, files: { qkv =, qkv_bias =, proj =, proj_bias = } as of mp.parameter.
return function(name, x, options)
  local heads, groups, head = check(name, x, options)
  local width, files, bias = x.shape[3], options.files or {}, options.bias ~= false
  local rows = heads // groups + 2
  return mp.layer(name, function()
    local init = options.init or inits.default(width)
    local qkv = mp.linear(x, mp.parameter("qkv.weight", { groups, rows, head, width }, init, { shard = 1, files = files.qkv }))
    if bias then
      qkv = qkv + mp.parameter("qkv.bias", { groups, rows, head }, mp.zeros, { shard = 1, decay = false, files = files.qkv_bias })
    end
    if options.rope then
      qkv = mp.rope(qkv, options.rope)
    end
    local y = mp.reshape(mp.attention(qkv, { dropout = options.dropout or 0 }), x.shape[1], x.shape[2], heads * head)
    local proj = mp.parameter("proj.weight", { width, heads * head }, options.out_init or init, { shard = 2, files = files.proj })
    y = mp.linear(y, proj)
    return bias and y + mp.parameter("proj.bias", { width }, mp.zeros, { decay = false, files = files.proj_bias }) or y
  end)
end
