mpgen specs/mlp.lua -o out --explain=yaml
