mpgen specs/mlp.lua
