-- GPT-3 (Brown et al., arXiv:2005.14165, table 2.1), with dense attention in all layers. Where the paper's heads times their
-- size is not the width (XL: 24 x 128, 13B: 5140), the heads that make it so are used.
local gpt = require "gpt"

local sizes = {
  ["125M"] = { layers = 12, width = 768, heads = 12, context = 2048 },
  ["350M"] = { layers = 24, width = 1024, heads = 16, context = 2048 },
  ["760M"] = { layers = 24, width = 1536, heads = 16, context = 2048 },
  ["1.3B"] = { layers = 24, width = 2048, heads = 16, context = 2048 },
  ["2.7B"] = { layers = 32, width = 2560, heads = 32, context = 2048 },
  ["6.7B"] = { layers = 32, width = 4096, heads = 32, context = 2048 },
  ["13B"] = { layers = 40, width = 5120, heads = 40, context = 2048 },
  ["175B"] = { layers = 96, width = 12288, heads = 96, context = 2048 },
}
local size = mp.option("size", "125M", "125M, 350M, 760M, 1.3B, 2.7B, 6.7B, 13B or 175B")
if not sizes[size] then
  error(("there is no size '%s': 125M, 350M, 760M, 1.3B, 2.7B, 6.7B, 13B, 175B"):format(size))
end
return gpt.program("gpt3", gpt.options(sizes[size]))
