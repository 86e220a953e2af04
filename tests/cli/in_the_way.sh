# A file of ours that something else has taken the place of.
mpgen specs/mlp.lua -o out
rm out/main.c
mkdir out/main.c
run mpgen specs/mlp.lua --batch 128 -o out
rmdir out/main.c
rm -r out/runtime
echo mine >out/runtime
run mpgen specs/mlp.lua --batch 128 -o out
