-- run: --mesh pp=2 --dtype bf16
-- keep: dump:fuse
-- Element-wise nodes join the kernels of norms: those that make what a norm reads (n1, n2) and those behind its gradient (n1, n2, n3).
-- What another block makes does not (n3), nor what reads a bias (n4). The gradient of a bias in front of a norm is summed by that of the norm (f,
-- n5), but not in another block (g).
local nn = require "nn"

local function forward(t)
  local x = nn.linear("a", t.image, 24)
  x = mp.block("one", function(x)
    local sum = mp.scale(nn.relu(nn.linear("b", x, 24)), 0.5) + x
    local z = nn.linear("c", nn.rms_norm("n1", sum), 24)
    return nn.layer_norm("n2", nn.relu(z * x)) + sum
  end, x)
  x = mp.block("two", function(x)
    local y = nn.linear("d", nn.layer_norm("n3", x), 24)
    return nn.rms_norm("n4", y + mp.parameter("shift", {24}, mp.zeros)) + x
  end, x)
  x = mp.block("three", function(x)
    local sum = x + nn.linear("f", x, 24)
    return sum + nn.linear("g", nn.layer_norm("n5", sum), 24)
  end, x)
  return { loss = mp.cross_entropy(nn.linear("e", x, 10), t.label) }
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 36 }, label = { "i32" } },
  batch = 16, microbatches = 2,
  optimizer = mp.sgd { lr = 0.1 },
}
