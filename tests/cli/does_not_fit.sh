# A device of 20 MB.
cat >small.json <<'END'
{"flops": 1e12, "flops_tf32": 1e12, "memory_bandwidth": 1e12, "link_bandwidth": 1e11, "link_latency": 1e-6, "launch": 1e-6,
 "capacity": 20e6, "overhead": 0}
END
# ---
mpgen specs/mlp.lua --device small.json -o out
