-- Operations belong inside of forward.
local w = mp.parameter("w", { 10, 10 }, mp.zeros)
