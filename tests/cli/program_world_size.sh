# program: specs/mlp.lua --mesh 1
RANK=0 LOCAL_RANK=0 WORLD_SIZE=4 MASTER_ADDR=127.0.0.1 MASTER_PORT=29511 ./program --data synthetic --steps 1
