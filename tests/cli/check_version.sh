# Another version of mpgen alone: stale, unless --ignore-version.
mpgen specs/mlp.lua -o out
sed -i '1s/.*/mpgen 0.0.0/' out/manifest.txt
run mpgen specs/mlp.lua -o out --check
run mpgen specs/mlp.lua -o out --check --ignore-version
echo >>out/main.c
run mpgen specs/mlp.lua -o out --check --ignore-version
