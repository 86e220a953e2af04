mpgen specs/mlp.lua -o out --mesh tp=2 --sequence-parallel
