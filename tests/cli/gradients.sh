# Gradients of matrices in bf16 need --dtype bf16, and one micro-batch; the manifest says so.
small="specs/gpt2.lua -D layers=2 -D width=64 -D heads=4 -D vocab=250 -D context=32 --batch 8"
for type in f32 bf16; do
	mpgen -q $small --dtype bf16 --gradients $type -o $type && awk '/gradients +optimizer/ || $1 == "0" && NF > 6' $type/plan.txt && grep -o "^options.*-D size" $type/manifest.txt
done
run mpgen $small --dtype bf16 --gradients bf16 --microbatches 2 -o several
run mpgen $small --gradients bf16 -o out
run mpgen $small --dtype bf16 --gradients fp16 -o out
