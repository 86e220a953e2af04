# A link in the place of a file is replaced, not followed.
mpgen specs/mlp.lua -o out
echo precious >precious
rm out/program_0.cu
ln -s ../precious out/program_0.cu
run mpgen specs/mlp.lua --check -o out
run mpgen specs/mlp.lua -o out
cat precious
find out -type l
run mpgen specs/mlp.lua --check -o out
