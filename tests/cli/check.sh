mpgen specs/mlp.lua --mesh pp=2 -o out
run mpgen specs/mlp.lua --mesh pp=2 -o out --check
run mpgen specs/mlp.lua --mesh pp=2 -o missing --check
sed -i 's/stage 0/stage O/' out/program_0.cu
run mpgen specs/mlp.lua --mesh pp=2 -o out --check
mpgen specs/mlp.lua --mesh pp=2 -o out
run mpgen specs/mlp.lua --mesh pp=2 -o out --check
rm out/kernels.cu
run mpgen specs/mlp.lua --mesh pp=2 -o out --check
mpgen specs/mlp.lua --mesh pp=2 -o out
printf x >>out/plan.txt
run mpgen specs/mlp.lua --mesh pp=2 -o out --check
mpgen specs/mlp.lua --mesh pp=2 -o out
run mpgen specs/mlp.lua --mesh 1 -o out --check >changed
sed -n '1p; /differs/p; /no longer/p; $p' changed
