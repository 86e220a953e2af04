mpgen specs/mlp.lua -o out --zero 1
