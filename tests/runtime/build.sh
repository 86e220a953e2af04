#!/bin/sh
# Builds the hand-written program for the host into the folder $1: train1, train2 (DP), infer1, other1 (another build
# hash), warm1 (learning rate with warm-up and decay), fork2 (train2 that starts its ranks as the CUDA build does), by the commands that emitted build files use.
# Objects are made again only when their sources are newer.
set -e
root=$(cd "$(dirname "$0")/../.." && pwd)
out=$1
common="-O2 -g -march=native -ffp-contract=off -Wall -Wextra -Werror -I$root/runtime/host -I$root/runtime $CFLAGS"
mkdir -p "$out/objects"
newest=$(ls -t "$root"/runtime/*.h "$root"/runtime/host/*.h | head -1)
objects=
for source in "$root"/runtime/*.c "$root"/runtime/host/*.c "$root"/runtime/cuda/local.c; do
	object=$out/objects/$(echo "${source#$root/runtime/}" | tr / _).o
	case $object in */*_local.c.o) ;; *) objects="$objects $object" ;; esac
	[ "$object" -nt "$source" ] && [ "$object" -nt "$newest" ] || ${CC:-gcc} -std=c11 $common -c "$source" -o "$object"
done
program() { # NAME TEMPLATE MACHINE DEFINES...
	name=$1 template=$2 local=$out/objects/$3_local.c.o
	shift 3
	${CXX:-g++} -x c++ -std=c++17 $common -Wno-unused-parameter "$@" -c "$root/tests/runtime/tiny.cu" -o "$out/objects/$name.o"
	${CC:-gcc} -std=c11 $common -c "$root/templates/$template" -o "$out/objects/$name.main.o"
	${CXX:-g++} $common "$out/objects/$name.o" "$out/objects/$name.main.o" $objects "$local" -lopenblas -lz -lm -lpthread -o "$out/$name"
}
program train1 main_train.c host
program train2 main_train.c host -DDP=2
program fork2 main_train.c cuda -DDP=2
program other1 main_train.c host '-DBUILD="fedcba0987654321"'
program warm1 main_train.c host '-DRATE={0.1, mp_learning_rate::MP_LR_LINEAR, 3}'
program infer1 main_infer.c host -DINFER
