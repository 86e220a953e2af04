mpgen specs/mlp.lua -o out --check
