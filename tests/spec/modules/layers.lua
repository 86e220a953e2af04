local nn = require "nn"
local layers = {}

function layers.head(x, classes)
  return nn.linear("head", x, classes)
end

return layers
