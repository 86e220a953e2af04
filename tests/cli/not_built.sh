run mpgen specs/mlp.lua -o out --dtype bf16
run mpgen specs/mlp.lua -o out --zero 1
run mpgen specs/mlp.lua -o out --zero 2
run mpgen specs/mlp.lua -o out --recompute full
run mpgen specs/mlp.lua -o out --recompute selective
run mpgen specs/mlp.lua -o out --offload optimizer
run mpgen specs/mlp.lua -o out --schedule ZBV
run mpgen specs/mlp.lua -o out --schedule ZB1P
run mpgen specs/mlp.lua -o out --schedule Interleaved1F1B:2
run mpgen specs/mlp.lua -o out --schedule mine.csv
run mpgen specs/mlp.lua -o out --mesh auto
run mpgen specs/mlp.lua -o out --devices 4
run mpgen specs/mlp.lua -o out --sequence-parallel
