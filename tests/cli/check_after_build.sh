# What a build leaves is not reported and not removed.
mpgen specs/mlp.lua -o out
mkdir -p out/bin out/build-host
touch out/bin/mlp-host out/build-host/main.o out/.ninja_log out/checkpoint
run mpgen specs/mlp.lua -o out --check
run mpgen specs/mlp.lua --mesh 1 -o out
ls -A out out/bin out/build-host
