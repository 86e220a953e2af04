# program: specs/mlp.lua --mesh pp=2 -D width=40
# Places that cannot be written to.
echo mine >file
run program/bin/mlp-host --data synthetic --steps 1 --save file
run program/bin/mlp-host --data synthetic --steps 1 --save file/below
run program/bin/mlp-host --data synthetic --steps 1 --log file/log
run program/bin/mlp-host --data synthetic --steps 1 --log .
run program/bin/mlp-host --data synthetic --steps 1 --trace file/trace
