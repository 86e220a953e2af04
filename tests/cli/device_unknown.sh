mpgen specs/mlp.lua -o out --device h1000
