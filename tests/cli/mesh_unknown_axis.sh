mpgen specs/mlp.lua -o out --mesh cp=2
