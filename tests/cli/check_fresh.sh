mpgen specs/mlp.lua -o out
# ---
mpgen specs/mlp.lua -o out --check
