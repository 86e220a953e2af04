mpgen specs/mlp.lua -o /proc/nowhere
