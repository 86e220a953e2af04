# program: specs/mlp.lua --mesh pp=2 -D width=40
# IDX files that do not fit the model.
mkdir empty
run program/bin/mlp-host --data empty
python3 tests/cli/idx.py narrow 64 28 27 3
run program/bin/mlp-host --data narrow
python3 tests/cli/idx.py eleven 64 28 28 10
run program/bin/mlp-host --data eleven --steps 1
python3 tests/cli/idx.py few 63 28 28 3
run program/bin/mlp-host --data few
python3 tests/cli/idx.py cut 64 28 28 3
truncate -s -1 cut/train-images-idx3-ubyte
run program/bin/mlp-host --data cut
python3 tests/cli/idx.py good 64 28 28 3
run program/bin/mlp-host --data good --eval narrow
rm good/train-labels-idx1-ubyte
run program/bin/mlp-host --data good
