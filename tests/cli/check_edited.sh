mpgen specs/mlp.lua -o out
echo '// edited' >>out/main.c
# ---
mpgen specs/mlp.lua -o out --check
