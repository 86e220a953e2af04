run mpgen specs/mlp.lua --mehs dp=2 -o out
run mpgen --mehs=dp=2 specs/mlp.lua -o out
run mpgen specs/mlp.lua -o out --microbathces 2
run mpgen specs/mlp.lua --frobnicate -o out
run mpgen -x specs/mlp.lua -o out
run mpgen specs/mlp.lua -o out --batch
run mpgen specs/mlp.lua -o
run mpgen specs/mlp.lua -o out --check=5
run mpgen specs/mlp.lua -o out --help=3
