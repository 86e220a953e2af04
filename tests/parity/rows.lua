-- Norms, rotary position embeddings, plain and stretched, and gated units, each alone on what parameters make of the input,
-- with positions outermost: a table of positions times a table of each sample.
local nn = require "nn"

local theta = 50
local scaling = { factor = 4, low_freq_factor = 1, high_freq_factor = 3, original = 32 }

local function norm(name, x, eps)
  return mp.scope(name, function()
    local features = { x.shape[x.dims] }
    local weight = mp.parameter("weight", features, mp.constant(1), { decay = false })
    return mp.layer_norm(x, weight, mp.parameter("bias", features, mp.zeros, { decay = false }), eps)
  end)
end

local function forward(t)                            -- t.x f32[batch,16], t.y f32[batch,16]
  local x = t.x * mp.parameter("gain", { 16 }, mp.constant(1))
  local tables = mp.linear(x, mp.parameter("heads", { 2, 4, 12, 5, 16 }, mp.normal(0, 0.3)))  -- [batch,2,4,12,5]
  local qkv = mp.linear(mp.parameter("positions", { 7, 5 }, mp.normal(0, 1)), tables)         -- [7,batch,2,4,12]
  local up = mp.linear(x, mp.parameter("up", { 2, 16, 16 }, mp.normal(0, 0.3)))
  local outputs = {
    layer_norm = nn.layer_norm("layer_norm", x),
    no_bias = nn.layer_norm("no_bias", x, { bias = false, eps = 0.1 }),
    far = norm("far", x + 10, 1e-6),
    rms_norm = nn.rms_norm("rms_norm", x),
    rms_eps = nn.rms_norm("rms_eps", x, { eps = 0.5 }),
    rope = mp.sum(mp.rope(qkv) * qkv, 1),
    stretched = mp.sum(mp.rope(qkv, { theta = theta, scaling = scaling }) * qkv, 1),
    swiglu = nn.swiglu(up),
  }
  local losses = {}
  for _, name in ipairs { "layer_norm", "no_bias", "far", "rms_norm", "rms_eps", "swiglu" } do
    losses[#losses + 1] = nn.mse(outputs[name], t.y)
  end
  losses[#losses + 1] = mp.mean(nn.tanh(outputs.rope)) + mp.mean(nn.tanh(outputs.stretched))
  return { loss = losses, outputs = outputs }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 16 }, y = { "f32", 16 } },
  batch = 64, optimizer = mp.sgd { lr = 0.1, weight_decay = 0.01 },
}
