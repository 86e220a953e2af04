# program: specs/mlp.lua --mesh pp=2 -D width=40
# Data that do not fit the model.
run program/bin/mlp-host --data missing
mkdir empty
run program/bin/mlp-host --data empty
python3 cli/idx.py narrow 64 28 27 3
run program/bin/mlp-host --data narrow
python3 cli/idx.py eleven 64 28 28 10
run program/bin/mlp-host --data eleven --steps 1
python3 cli/idx.py few 63 28 28 3
run program/bin/mlp-host --data few
python3 cli/idx.py cut 64 28 28 3
truncate -s -1 cut/train-images-idx3-ubyte
run program/bin/mlp-host --data cut
python3 cli/idx.py good 64 28 28 3
run program/bin/mlp-host --data good --eval narrow
run program/bin/mlp-host --data good --load missing
