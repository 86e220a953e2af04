echo '{"flops": 1e12}' >device.json
# ---
mpgen specs/mlp.lua --device device.json -o out
