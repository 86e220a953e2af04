run mpgen specs/mlp.lua -o out --zero 2
run mpgen specs/mlp.lua -o out --recompute selective
run mpgen specs/mlp.lua -o out --schedule ZBV
