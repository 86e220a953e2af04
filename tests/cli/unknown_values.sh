run mpgen specs/mlp.lua -o out --schedule 2F2B
run mpgen specs/mlp.lua -o out --batch 64x
run mpgen specs/mlp.lua -o out --batch 99999999999999999999
run mpgen specs/mlp.lua -o out --mesh dp=two
run mpgen specs/mlp.lua -o out --define width=
