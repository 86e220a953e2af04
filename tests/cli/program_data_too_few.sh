# program: specs/mlp.lua --mesh 1
./program --data few.safetensors --steps 1
