# program: specs/mlp.lua --mesh 1
./program --steps 1
