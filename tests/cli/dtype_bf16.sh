mpgen specs/mlp.lua -o out --dtype bf16
