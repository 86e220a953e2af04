mpgen specs/mlp.lua -o out --ignore-version
