-- Both forms of GELU, softmax and ReLU, each an output of its own and a term of the loss.
local function forward(t)                            -- t.x f32[batch,16], t.y f32[batch,16]
  local gain = mp.parameter("gain", { 16 }, mp.constant(1))
  local x = t.x * gain
  local outputs = { gelu_erf = mp.gelu(x), gelu_tanh = mp.gelu(x, "tanh"), softmax = mp.softmax(x), relu = mp.relu(x) }
  local losses = {}
  for name, output in pairs(outputs) do
    local d = output - t.y
    losses[#losses + 1] = mp.mean(d * d)
  end
  return { loss = losses, outputs = outputs }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 16 }, y = { "f32", 16 } },
  batch = 64, optimizer = mp.sgd { lr = 0.5 },
}
