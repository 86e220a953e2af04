mpgen specs/mlp.lua -o out --mesh dp=2,dp=2
