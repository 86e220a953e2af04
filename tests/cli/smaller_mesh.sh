# Files that are no longer part of the program go; what is not ours stays.
mpgen specs/mlp.lua --mesh pp=4 -o out
echo mine >out/program_9.cu
ls out/program_*
run mpgen specs/mlp.lua --mesh pp=2 -o out
ls out/program_*
mpgen specs/mlp.lua --mesh pp=2 -o fresh
rm out/program_9.cu
same out fresh
