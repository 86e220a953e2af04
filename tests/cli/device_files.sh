device 3e7 >small.json
run mpgen specs/mlp.lua --device small.json --mesh tp=2,pp=2 -o out
device 8e9 >large.json
run mpgen specs/mlp.lua --device large.json --mesh tp=2,pp=2 -o out
device '"much"' >text.json
run mpgen specs/mlp.lua --device text.json -o out
device 8e9 | sed 's/5e13/0/' >still.json
run mpgen specs/mlp.lua --device still.json -o out
device 8e9 | head -1 >cut.json
run mpgen specs/mlp.lua --device cut.json -o out
device 8e9 | sed 's/8e9, /8e9 /' >comma.json
run mpgen specs/mlp.lua --device comma.json -o out
