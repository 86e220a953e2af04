# The values that change nothing are accepted.
run mpgen specs/mlp.lua -o one
run mpgen specs/mlp.lua -o two --zero 0 --recompute none --offload none --deterministic --schedule 1F1B --dtype f32 --mode train
same one two
