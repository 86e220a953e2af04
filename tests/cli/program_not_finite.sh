# program: specs/mlp.lua --mesh pp=2 -D width=40 -D lr=1e30
run program/bin/mlp-host --data synthetic --steps 20 --seed 1 >output
sed 's/ step [0-9]*/ step N/; /^!/p; /^exit/p; /FAILED/,$p' -n output
