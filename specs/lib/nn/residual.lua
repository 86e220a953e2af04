-- nn.residual: marks the residual stream of a language model, [positions,samples,width].
--
-- With --sequence-parallel, tp splits it by positions: what comes from a layer with shard = "row" is scattered while it is
-- added up, norms and dropout work on a part of the positions each, and layers with shard = "column" gather them again.
-- Without, it changes nothing. Everything that is added to the stream is marked too.
local arguments = require "nn.arguments"

return function(x)
  arguments.input("nn.residual", "the residual stream", x)
  return mp.sequence_parallel and mp.constrain(x, { tp = 1 }) or x
end
