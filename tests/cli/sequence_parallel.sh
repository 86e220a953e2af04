mpgen specs/mlp.lua -o out --sequence-parallel
