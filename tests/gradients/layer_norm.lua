-- layer_norm: of rows with leading dims, with and without a bias, of weights alone, behind each other; an eps of its own.
local nn = require "nn"

local function norm(name, x, eps, bias)
  return mp.scope(name, function()
    local features = { x.shape[x.dims] }
    local weight = mp.parameter("weight", features, mp.normal(1, 0.5))
    return mp.layer_norm(x, weight, bias and mp.parameter("bias", features, mp.normal(0, 0.5)) or nil, eps)
  end)
end

local function forward(t)                            -- t.x f32[batch,3,7], t.y f32[batch,3,5]
  local h = norm("first", t.x * mp.parameter("gain", { 3, 7 }, mp.normal(1, 0.5)), nil, true)
  h = nn.linear("wide", h, 5) + norm("table", mp.parameter("rows", { 3, 5 }, mp.normal(0, 1)), 0.1, true)
  mp.cut()
  local y = norm("second", nn.gelu(h) + h * h, 0.3, false) + h
  return { loss = { nn.mse(nn.tanh(y), t.y), nn.mse(norm("last", mp.sum(y * t.y, 2), nil, true), mp.sum(t.y, 2)) * 0.1 } }
end

return mp.program {
  forward = forward,
  data = mp.tensors { x = { "f32", 3, 7 }, y = { "f32", 3, 5 } },
  batch = 8, microbatches = 2, optimizer = mp.sgd { lr = 1 },
}
