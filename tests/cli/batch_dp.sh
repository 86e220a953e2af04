mpgen specs/mlp.lua -o out --mesh dp=3
