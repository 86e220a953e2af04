# What a build leaves is not removed by the next mpgen, whatever the mesh.
mpgen specs/mlp.lua -o out
mkdir -p out/bin out/build-host
touch out/bin/mlp-host out/build-host/main.o out/.ninja_log
run mpgen specs/mlp.lua --mesh 1 -o out
ls -A out out/bin out/build-host
