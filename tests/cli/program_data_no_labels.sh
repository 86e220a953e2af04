# program: specs/mlp.lua --mesh 1
./program --data no_labels.safetensors --steps 1
