mpgen specs/mlp.lua -o out -D lr=-1
