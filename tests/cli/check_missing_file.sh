mpgen specs/mlp.lua -o out
rm out/devices.c
# ---
mpgen specs/mlp.lua -o out --check
