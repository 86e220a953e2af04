# program: specs/mlp.lua --mesh pp=2 -D width=40
run program/bin/mlp-host --data synthetic --stesp=3
run program/bin/mlp-host --data synthetic --frobnicate
run program/bin/mlp-host --data
run program/bin/mlp-host --data synthetic --steps -1
run program/bin/mlp-host --data synthetic --one-gpu=1
run program/bin/mlp-host --data synthetic --save-every 2
run program/bin/mlp-host --data synthetic --eval-every 2
run program/bin/mlp-host --data synthetic --allow-missing
run program/bin/mlp-host --data synthetic --output out
run program/bin/mlp-host --help
