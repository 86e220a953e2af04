mpgen tests/equality/attends.lua --mesh tp=3 -o out
