# A plan of fewer programs takes the old ones away.
mpgen specs/mlp.lua --mesh pp=4 -o out
# ---
mpgen specs/mlp.lua --mesh pp=2 -o out; ls out/*.cu
