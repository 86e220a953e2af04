# program: specs/mlp.lua --mesh 1
./program --data wrong_label.safetensors --steps 1
