-- What gpt.lua makes with bias = false: no layer has one.
local gpt = require "gpt"
return gpt.program("gpt", { layers = 1, width = 16, heads = 2, vocab = 100, context = 8, dropout = 0.1, bias = false })
