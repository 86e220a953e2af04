# The plan for people has its sections; nothing is written.
run mpgen tests/cli/plain.lua --mesh dp=2,pp=2 --microbatches 4 --explain -o out
ls
mpgen tests/cli/plain.lua --mesh dp=2,pp=2 --microbatches 4 -o out
mpgen tests/cli/plain.lua --mesh dp=2,pp=2 --microbatches 4 --explain | diff - out/plan.txt && echo "plan.txt is what --explain prints"
mpgen tests/cli/plain.lua --mesh dp=2,pp=2 --microbatches 4 --explain=json | diff - out/plan.json && echo "plan.json is what --explain=json prints"
