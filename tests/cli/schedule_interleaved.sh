mpgen specs/mlp.lua -o out --schedule Interleaved1F1B:2
