-- Blocks: mp.block, what follows one, layers, cuts, and a cut at the end.
local nn = require "nn"

local function forward(t)
  mp.cut()
  local x = mp.scale(t.image, 2)
  for i = 1, 2 do
    x = mp.block("h" .. i, function(h)
      return h + mp.scope("mlp", function()
        return nn.relu(nn.linear("down", nn.gelu(nn.linear("up", h, 64)), 784))
      end)
    end, x)
  end
  pcall(mp.scope, "broken", function() error("caught") end)
  x = mp.scale(x, 0.5)
  mp.cut()
  local logits = nn.linear("head", x, 10)
  mp.cut()
  return { loss = mp.cross_entropy(logits, t.label), outputs = { logits = logits } }
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
