# Each kind is built, keeps less than the one before and says so; another kind is refused, with what there is.
for kind in none selective full; do
	mpgen -q tests/cli/blocks.lua -o $kind --recompute $kind && grep "kept of" $kind/plan.txt
done
grep "^options" selective/manifest.txt
grep -c "again" none/program_0.cu selective/program_0.cu full/program_0.cu
run mpgen tests/cli/blocks.lua -o out --recompute some
