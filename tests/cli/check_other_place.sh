# The same spec under another path gives the same bytes.
mpgen specs/mlp.lua -o out
# ---
mkdir other && cp specs/mlp.lua other && cd other && mpgen mlp.lua -o ../out --check
