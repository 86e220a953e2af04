# Each replica stores a part of the states and of the master weights, gathers what it computes with, and says so; other stages are refused.
for zero in 0 1; do
	mpgen -q specs/gpt2.lua -D layers=2 -D width=64 -D heads=4 -D vocab=250 -D context=32 --dtype bf16 --batch 8 --mesh dp=2 --zero $zero -o $zero &&
		awk '/gradients +optimizer/ || $1 == "0" && NF > 6' $zero/plan.txt && grep -o "^options.*zero.*-D size" $zero/manifest.txt
	grep -c "all_gather(r, MP_DP\|ncclAllGather" $zero/program_0.cu
done
run mpgen tests/cli/blocks.lua -o one --mesh 1 --zero 1
run mpgen tests/cli/blocks.lua -o out --zero 4
