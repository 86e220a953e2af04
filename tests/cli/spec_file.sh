run mpgen specs/mpl.lua -o out
run mpgen . -o out
run mpgen specs/mlp.lua/x -o out
