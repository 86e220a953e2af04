-- GPT-2 (Radford et al. 2019): 124M, 350M, 774M and 1558M parameters, or any size by layers, width and heads.
local gpt = require "gpt"

local sizes = {
  ["124M"] = { layers = 12, width = 768, heads = 12, context = 1024 },
  ["350M"] = { layers = 24, width = 1024, heads = 16, context = 1024 },
  ["774M"] = { layers = 36, width = 1280, heads = 20, context = 1024 },
  ["1558M"] = { layers = 48, width = 1600, heads = 25, context = 1024 },
}
local size = mp.option("size", "124M", "124M, 350M, 774M or 1558M; layers, width and heads make any other")
if not sizes[size] then
  error(("there is no size '%s': 124M, 350M, 774M, 1558M"):format(size))
end
return gpt.program("gpt2", gpt.options(sizes[size]))
