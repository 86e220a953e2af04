# What a batch and a model cannot be spread over.
run mpgen tests/cli/plain.lua --mesh dp=2,pp=3 -o out
run mpgen tests/cli/plain.lua --mesh pp=65 -o out
run mpgen tests/cli/plain.lua --mesh dp=2 --microbatches 64 -o out
run mpgen tests/cli/plain.lua --batch 12 --mesh dp=4 --microbatches 2 -o out
run mpgen tests/cli/plain.lua --mesh dp=1024,tp=1024,pp=1024 -o out
