-- A spec that returns something else.
return { batch = 1 }
