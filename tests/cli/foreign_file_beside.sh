# A file of another name is nobody's business.
mkdir out
echo mine >out/notes.txt
# ---
mpgen specs/mlp.lua -o out && cat out/notes.txt && mpgen specs/mlp.lua -o out --check
