mpgen specs/mlp.lua -o out --schedule ZB1P
