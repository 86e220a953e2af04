# program: specs/mlp.lua --mesh pp=2 -D width=40
# Started by a launcher with another number of ranks.
RANK=0 WORLD_SIZE=3 run program/bin/mlp-host --data synthetic --steps 1
RANK=0 WORLD_SIZE=1 run program/bin/mlp-host --data synthetic --steps 1
RANK=2 WORLD_SIZE=2 run program/bin/mlp-host --data synthetic --steps 1
RANK=0 run program/bin/mlp-host --data synthetic --steps 1
RANK=first WORLD_SIZE=2 run program/bin/mlp-host --data synthetic --steps 1
OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=4 run program/bin/mlp-host --data synthetic --steps 1
