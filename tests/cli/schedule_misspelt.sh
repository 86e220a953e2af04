mpgen specs/mlp.lua -o out --schedule Gpipe
