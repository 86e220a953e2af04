mpgen specs/mlp.lua -o out --templates nowhere
