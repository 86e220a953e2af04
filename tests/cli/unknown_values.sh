run mpgen specs/mlp.lua -o out --dtype f33
run mpgen specs/mlp.lua -o out --schedule gpipe
run mpgen specs/mlp.lua -o out --schedule 2F2B
run mpgen specs/mlp.lua -o out --mode inferr
run mpgen specs/mlp.lua -o out --device h1000
run mpgen specs/mlp.lua --dump plcae
run mpgen specs/mlp.lua --explain=jsn
run mpgen specs/mlp.lua -o out --batch 0
run mpgen specs/mlp.lua -o out --batch 64x
run mpgen specs/mlp.lua -o out --microbatches -1
run mpgen specs/mlp.lua -o out --batch 99999999999999999999
run mpgen specs/mlp.lua -o out --mesh dp=two
