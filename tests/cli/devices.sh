mpgen specs/mlp.lua -o out --devices 8
