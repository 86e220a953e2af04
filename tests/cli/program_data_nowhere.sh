# program: specs/mlp.lua --mesh 1
./program --data nowhere --steps 1
