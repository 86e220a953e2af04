mpgen specs/mlp.lua -o out --offload optimizer
