mpgen specs/mlp.lua -o out -D width=wide
