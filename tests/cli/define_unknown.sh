mpgen specs/mlp.lua -o out -D widht=3
