# A file that would not change keeps its time, so that ninja has nothing to do.
mpgen specs/mlp.lua -o out
find out -exec touch -d '2001-01-01' {} +
mpgen specs/mlp.lua -o out
find out -type f -newermt 2001-01-02
mpgen specs/mlp.lua --batch 128 -o out
find out -type f -newermt 2001-01-02 | LC_ALL=C sort
