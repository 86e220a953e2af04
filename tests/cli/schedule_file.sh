mpgen specs/mlp.lua -o out --schedule actions.csv
