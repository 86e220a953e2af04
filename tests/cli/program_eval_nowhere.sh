# program: specs/mlp.lua --mesh 1
./program --data synthetic --steps 1 --eval nowhere
