mpgen specs/mlp.lua -o out --device none.json
