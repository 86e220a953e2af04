mkdir out
echo mine >out/main.c
# ---
mpgen specs/mlp.lua -o out
