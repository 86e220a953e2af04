# What was not written by mpgen stays as it is.
echo mine >file
run mpgen specs/mlp.lua -o file/below
run mpgen . -o out
mkdir -p deep/runtime
echo mine >deep/runtime/mp.h
run mpgen specs/mlp.lua -o deep
run mpgen specs/mlp.lua -o new/folder/below
ls new/folder/below
