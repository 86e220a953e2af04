mpgen specs/mlp.lua -o out --dtype f16
