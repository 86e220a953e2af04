-- nn.mse: the mean of squared differences, over all elements of the whole batch.
return function(a, b)
  for i, tensor in ipairs { a, b } do
    if not mp.is_tensor(tensor) then
      mp.fail(("nn.mse: argument %d must be a tensor, not %s"):format(i, mp.describe(tensor)))
    end
  end
  if table.concat(a.shape, ",") ~= table.concat(b.shape, ",") then
    mp.fail(("nn.mse: the shapes of %s and %s differ"):format(tostring(a), tostring(b)))
  end
  local difference = mp.sub(a, b)
  return mp.mean(mp.mul(difference, difference))
end
