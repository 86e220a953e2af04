mpgen specs/mlp.lua -o out --microbatches 0
