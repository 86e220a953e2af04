# What was not written by mpgen stays as it is.
echo mine >file
run mpgen specs/mlp.lua -o file
run mpgen specs/mlp.lua -o file/below
mkdir foreign
echo mine >foreign/main.c
run mpgen specs/mlp.lua -o foreign
mkdir -p deep/runtime
echo mine >deep/runtime/mp.h
run mpgen specs/mlp.lua -o deep
mkdir own
echo mine >own/notes.txt
run mpgen specs/mlp.lua -o own
cat own/notes.txt
run mpgen specs/mlp.lua -o new/folder/below
ls new/folder/below
