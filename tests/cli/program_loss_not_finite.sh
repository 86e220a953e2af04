# program: specs/mlp.lua --mesh 1
./program --data infinite.safetensors --steps 3 --order file
