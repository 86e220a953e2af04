mpgen specs/mlp.lua specs/mlp.lua -o out
