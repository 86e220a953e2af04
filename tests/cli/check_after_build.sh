# program: specs/mlp.lua --mesh pp=2 -D width=40
# What a build leaves is not reported, and not removed.
run mpgen specs/mlp.lua --mesh pp=2 -D width=40 -o program/. --check
ls program/bin
