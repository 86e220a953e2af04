# program: specs/mlp.lua --mesh 1
./program --data wrong_size.safetensors --steps 1
