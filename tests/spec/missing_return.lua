-- The program is made but not returned.
local function forward(t)
  return { loss = mp.mean(t.image) }
end

mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
