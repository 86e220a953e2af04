-- Both forms of GELU, softmax and the other activations, each an output of its own and a term of the loss.
local nn = require "nn"

local function forward(t)                            -- t.x f32[batch,16], t.y f32[batch,16]
  local gain = mp.parameter("gain", { 16 }, mp.constant(1))
  local x = t.x * gain
  local outputs = {
    gelu_erf = nn.gelu(x), gelu_tanh = nn.gelu(x, "tanh"), softmax = nn.softmax(x), relu = nn.relu(x), silu = nn.silu(x),
    tanh = nn.tanh(x), sigmoid = nn.sigmoid(x),
  }
  local losses = {}
  for name, output in pairs(outputs) do
    losses[#losses + 1] = nn.mse(output, t.y)
  end
  return { loss = losses, outputs = outputs }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 16 }, y = { "f32", 16 } },
  batch = 64, optimizer = mp.sgd { lr = 0.5 },
}
