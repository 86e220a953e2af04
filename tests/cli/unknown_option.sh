mpgen specs/mlp.lua -o out --mehs 1
