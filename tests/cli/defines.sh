run mpgen specs/mlp.lua -D momentun=0.9 -o out
run mpgen specs/mlp.lua -D momentum -o out
run mpgen specs/mlp.lua -D width=wide -o out
run mpgen specs/mlp.lua --define width= -o out
