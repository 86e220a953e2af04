# program: specs/mlp.lua --mesh 1
./program --data synthetic --order odd
