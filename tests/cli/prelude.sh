# What the cases of this folder use beside plain commands.

# Names and contents of everything below a folder; links are shown, not followed.
snapshot() {
	(cd "$1" && find . -type l -printf '%p -> %l\n' -o -type d -printf '%p/\n' -o -type f -exec sha256sum {} + | LC_ALL=C sort -k2)
}

# Runs a command and shows it: the command, its stdout, its stderr behind "! ", its exit status. A command that fails must
# leave every file as it was.
run() {
	echo "\$ $*"
	snapshot . >"$scratch/before"
	"$@" >"$scratch/stdout" 2>"$scratch/stderr"
	status=$?
	snapshot . >"$scratch/after"
	cat "$scratch/stdout"
	sed 's/^/! /' "$scratch/stderr"
	echo "exit $status"
	if [ $status -ne 0 ] && ! diff "$scratch/before" "$scratch/after" >"$scratch/diff"; then
		echo "IT FAILED AND CHANGED FILES:"
		grep '^[<>]' "$scratch/diff"
	fi
}

# Says whether two folders hold the same bytes; what differs when they do not.
same() {
	diff -r "$1" "$2" && echo "$1 and $2 are the same"
}

# A device description with so many bytes of memory.
device() {
	printf '{"flops": 5e13, "flops_tf32": 4e14, "memory_bandwidth": 3e12, "link_bandwidth": 3e11, "link_latency": 1e-5,\n'
	printf ' "launch": 2.5e-6, "capacity": %s, "overhead": 0}\n' "$1"
}
