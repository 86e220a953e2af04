# A link in the place of a folder is not followed either, and nothing else is written.
mpgen specs/mlp.lua -o out
mv out/runtime elsewhere
ln -s ../elsewhere out/runtime
run mpgen specs/mlp.lua --batch 128 -o out
