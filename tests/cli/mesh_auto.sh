mpgen specs/mlp.lua -o out --mesh auto
