# program: specs/mlp.lua --mesh pp=2 -D width=40
# SIGINT and SIGTERM end a run behind a step, and save.
for signal in INT TERM; do
	program/bin/mlp-host --data synthetic --steps 100000000 --save saved --log log --log-every 100 >stdout 2>stderr &
	for i in $(seq 500); do [ -s log ] && break; sleep 0.02; done
	kill -$signal $!
	wait $!
	echo "exit $?"
	cat stderr
	sed -n 's/[0-9][0-9]*/N/g; /interrupted/p; /saved/p' stdout
	ls saved | sed 's/[0-9][0-9]*/N/'
	ls saved/step_*
	program/bin/mlp-host --data synthetic --steps 1 --load saved/step_* >loaded && echo "the checkpoint loads"
	rm -r saved log
done
