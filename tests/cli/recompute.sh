mpgen specs/mlp.lua -o out --recompute full
