# What is predicted of steps that were measured: on an H200 they took 74.65, 163.7 and 191.8 ms, and 97.9 and 111.7 on two.
for mesh in "1 --batch 16" "1 --batch 32 --microbatches 8" "1 --batch 32 --microbatches 16" "pp=2 --batch 32 --microbatches 8" "pp=2 --batch 32 --microbatches 16"; do
	mpgen specs/gpt2.lua -D size=350M --dtype bf16 --device h200 --mesh $mesh --schedule 1F1B --explain | grep predicted
done
