mpgen specs/mlp.lua -o out --mesh tp=0
