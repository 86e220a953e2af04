# Every pass prints something, and what a later pass adds.
for pass in spec differentiate place recompute stages roles fuse schedule memory synchronise; do
	mpgen specs/mlp.lua --mesh dp=2,tp=2,pp=2 --dump $pass >$pass || echo "$pass failed"
	[ -s $pass ] || echo "$pass printed nothing"
	[ "$(head -c 6 $pass)" = "stage " ] && kind=plan || kind=graph
	echo "$pass: a $kind; grad $(grep -c grad $pass | sed 's/^[1-9].*/yes/'), all_reduce $(grep -c all_reduce $pass | sed 's/^[1-9].*/yes/')," \
		"train $(grep -c train: $pass), buffers $(grep -c '  buffer ' $pass | sed 's/^[1-9].*/yes/'), wait $(grep -c ' wait ' $pass | sed 's/^[1-9].*/yes/')"
done
run mpgen specs/mlp.lua --dump
ls
