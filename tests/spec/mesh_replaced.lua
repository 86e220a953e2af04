-- run: --summary --mesh dp=2
-- A mesh on the command line replaces the whole mesh of the spec: axes that it does not name are 1.
local function forward(t)
  return { loss = mp.mean(t.image) }
end

return mp.program {
  forward = forward,
  data = mp.tensors { image = { "f32", 784 } },
  batch = 8, mesh = { pp = 4, tp = 2 }, optimizer = mp.sgd { lr = 0.1 },
}
