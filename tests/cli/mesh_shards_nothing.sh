mpgen tests/spec/residual_across_cut.lua --mesh tp=2 -o out
