mpgen specs/mlp.lua -o out --mesh pp=9
