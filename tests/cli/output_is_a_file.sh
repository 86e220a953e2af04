echo mine >out
# ---
mpgen specs/mlp.lua -o out
