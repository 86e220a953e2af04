-- nn.embedding: rows of a table, looked up by ids.
local arguments = require "nn.arguments"

local known = { "shard", "init", "weight" }

-- ids i32 [..] -> [.., width]; ids from 0 to rows - 1. A tied head is mp.linear(x, table).
-- options: shard = "vocab" (tp splits the table by its rows: partial results are added), init (default N(0, 1)),
-- weight = a tensor: the table of another layer.
-- Gives the result and the table.
return function(name, ids, rows, width, options)
  options = options or {}
  arguments.input("nn.embedding", name, ids)
  arguments.positive("nn.embedding", name, "number of rows", rows)
  arguments.positive("nn.embedding", name, "width", width)
  mp.check_fields("nn.embedding", options, known)
  if options.shard ~= nil and options.shard ~= "vocab" then
    mp.fail(("nn.embedding: shard of '%s' must be \"vocab\", not %s"):format(name, mp.describe(options.shard)))
  end
  return mp.layer(name, function()
    local table = options.weight and arguments.given("nn.embedding", name, "weight", options.weight, { rows, width })
      or mp.parameter("weight", { rows, width }, options.init or mp.normal(0, 1), { shard = options.shard and 1 or nil })
    return mp.embedding(ids, table), table
  end)
end
