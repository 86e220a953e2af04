mpgen specs/mlp.lua --dump plase
