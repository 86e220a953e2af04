run mpgen specs/mlp.lua
run mpgen -o out
run mpgen
run mpgen specs/mlp.lua specs/sharded_linear.lua -o out
run mpgen specs/mlp.lua --check
run mpgen specs/mlp.lua -o out --ignore-version
