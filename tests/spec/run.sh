#!/bin/sh
# Runs every case of this folder: NAME.lua with its expected output beside it, NAME.expected (stdout, then stderr,
# then the exit status). A name without a file here is a shipped spec, specs/NAME.lua. A first line
# `-- run: ARGUMENTS` gives the driver's arguments. Prints a line a case.
#
#   tests/spec/run.sh [NAME...]      CC and CFLAGS choose the compiler; UPDATE=1 writes the named cases' results
cd "$(dirname "$0")/../.." || exit 1
LC_ALL=C
export LC_ALL
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
lua=${LUA_LIBRARY:-/usr/lib/x86_64-linux-gnu/liblua5.4.a}

if ! ${CC:-cc} -std=c11 -O1 -g -Wall -Wextra -Werror $CFLAGS -DREAD_LIBRARY_FROM_DISK $(pkg-config --cflags lua5.4) \
	-o "$work/driver" tests/spec/driver.c gen/common.c gen/diagnostics.c gen/spec/*.c gen/graph/*.c \
	"$lua" -lm -ldl; then
	echo "FAIL build"
	exit 1
fi

run_case() {
	file=tests/spec/$1.lua
	[ -f "$file" ] || file=specs/$1.lua
	arguments=$(sed -n '1s/^-- run://p' "$file")
	eval "\"$work/driver\" $arguments $file" >"$work/$1.out" 2>"$work/$1.err"
	status=$?
	cat "$work/$1.out" "$work/$1.err" >"$work/$1.actual"
	echo "exit $status" >>"$work/$1.actual"
}

failed=0
[ $# -gt 0 ] || [ -z "$UPDATE" ] || { echo "UPDATE needs the names of cases"; exit 2; }
[ $# -gt 0 ] || set -- $(ls tests/spec/*.expected | sed 's|tests/spec/||; s|\.expected$||')
for name in "$@"; do
	run_case "$name"
	if [ -n "$UPDATE" ]; then
		cp "$work/$name.actual" "tests/spec/$name.expected"
	elif diff -u "tests/spec/$name.expected" "$work/$name.actual" >"$work/diff" 2>&1; then
		echo "ok $name"
	else
		echo "FAIL $name"
		cat "$work/diff"
		failed=1
	fi
done
exit $failed
