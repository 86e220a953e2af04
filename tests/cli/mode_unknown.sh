mpgen specs/mlp.lua -o out --mode evil
