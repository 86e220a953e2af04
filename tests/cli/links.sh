# Links below the output folder are never followed.
mpgen specs/mlp.lua -o out
echo precious >precious
rm out/program_0.cu
ln -s ../precious out/program_0.cu
run mpgen specs/mlp.lua --check -o out
run mpgen specs/mlp.lua -o out
cat precious
find out -type l
run mpgen specs/mlp.lua --check -o out
mv out/runtime elsewhere
ln -s ../elsewhere out/runtime
run mpgen specs/mlp.lua --batch 128 -o out
