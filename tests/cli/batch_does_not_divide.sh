mpgen specs/mlp.lua -o out --batch 63
