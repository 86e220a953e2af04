-- Order, random numbers and texts are the same on every run.
local nn = require "nn"

local function forward(t)
  local seen = {}
  for key, value in pairs({ zeta = 1, alpha = 2, [3] = "c", [1] = "a", [2.5] = "b", [true] = 3, mid = 4, [-1] = 5 }) do
    seen[#seen + 1] = tostring(key) .. "=" .. tostring(value)
  end
  print(table.concat(seen, " "))
  local key, order = next({ b = 1, a = 2, c = 3 }), {}
  while key do
    order[#order + 1] = key
    key = next({ b = 1, a = 2, c = 3 }, key)
  end
  print(table.concat(order, " "), next({}) == nil)
  print(math.random(1000), math.random(1000), math.random(1000))
  print(tostring({}), tostring(print), ("%s %s"):format({}, coroutine.create(print)), t.image)
  print(pcall(string.format, "%p", {}))
  local people = {}
  for i = 1, 1000 do people[i] = { age = i % 3, number = i } end
  table.sort(people, function(a, b) return a.age < b.age end)
  print(people[1].number, people[2].number, people[333].number, people[334].number, people[1000].number)
  local words = { "pear", "apple", "fig" }
  table.sort(words)
  print(table.concat(words, " "))
  print(load("return 1 + 1")(), select("#", load("x =")), pcall(error, { "quiet" }))
  return { loss = mp.mean(t.image) }
end

return mp.program {
  forward = forward,
  data = mp.idx { image = { "f32", 784 }, label = { "i32" } },
  batch = 8, optimizer = mp.sgd { lr = 0.1 },
}
