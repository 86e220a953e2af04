# The keys that programs rely on, and what tp is for.
mpgen specs/mlp.lua --mesh dp=2,tp=2,pp=2 --explain=json >plan.json
run python3 tests/cli/keys.py plan.json
mpgen specs/mlp.lua --mesh 1 --explain=json >one.json
mpgen specs/mlp.lua --mesh tp=2 --explain=json >two.json
run python3 tests/cli/ratio.py one.json two.json 0.6
