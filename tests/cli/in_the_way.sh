# A folder in the place of a file that is to be written.
mpgen specs/mlp.lua -o out
rm out/main.c
mkdir out/main.c
run mpgen specs/mlp.lua --batch 128 -o out
