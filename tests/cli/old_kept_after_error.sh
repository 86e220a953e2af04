# A program that was emitted before is as it was after an error.
mpgen specs/mlp.lua -o out
# ---
mpgen specs/mlp.lua -o out --batch 63
