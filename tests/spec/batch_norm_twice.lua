-- Running statistics of two layers.
local nn = require "nn"

local function forward(t)                            -- t.image f32[8,6,5,4]
  local function vector(name)
    return mp.buffer(name, { 6 }, mp.zeros)
  end
  local statistics = { weight = mp.parameter("w", { 6 }, mp.zeros), bias = mp.parameter("b", { 6 }, mp.zeros),
    running_mean = vector("m"), running_var = vector("v"), num_batches_tracked = mp.buffer("n", {}, mp.zeros, { type = "i32" }) }
  local h = mp.batch_norm2d(mp.batch_norm2d(t.image, statistics), statistics)
  return { loss = mp.mean(h * h) }
end

return mp.program {
  forward = forward,
  data = mp.tensors { image = { "f32", 6, 5, 4 } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
