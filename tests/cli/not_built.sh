run mpgen specs/mlp.lua -o out --zero 2
run mpgen specs/mlp.lua -o out --offload activations
run mpgen specs/mlp.lua -o out --schedule ZBV
