#!/bin/sh
# Builds the hand-written programs for the host into the folder $1, by the commands that emitted build files use. Of
# tiny.cu: train1, train2 (DP), infer1, other1 (another build hash), warm1 (learning rate with warm-up and decay), fork2
# (train2 that starts its ranks as the CUDA build does). Of text.cu: text1, text2 (DP), write1, write2 (inference), and
# text_ids, write_ids (a vocabulary of 1000 ids).
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
object=$out/objects/activations.o
[ "$object" -nt "$newest" ] || ${CXX:-g++} -x c++ -std=c++17 $common -c "$root/runtime/host/activations.cu" -o "$object"
objects="$objects $object"
program() { # NAME SOURCE TEMPLATE MACHINE DEFINES...
	name=$1 source=$2 template=$3 local=$out/objects/$4_local.c.o
	shift 4
	${CXX:-g++} -x c++ -std=c++17 $common -Wno-unused-parameter "$@" -c "$root/tests/runtime/$source.cu" -o "$out/objects/$name.o"
	${CC:-gcc} -std=c11 $common -c "$root/templates/$template" -o "$out/objects/$name.main.o"
	${CXX:-g++} $common "$out/objects/$name.o" "$out/objects/$name.main.o" $objects "$local" -lopenblas -lz -lm -lpthread -o "$out/$name"
}
program train1 tiny main_train.c host
program train2 tiny main_train.c host -DDP=2
program fork2 tiny main_train.c cuda -DDP=2
program other1 tiny main_train.c host '-DBUILD="fedcba0987654321"'
program warm1 tiny main_train.c host '-DRATE={0.1, mp_learning_rate::MP_LR_LINEAR, 3, 0}'
program infer1 tiny main_infer.c host -DINFER
program text1 text main_train.c host
program text2 text main_train.c host -DDP=2
program write1 text main_infer.c host -DINFER
program write2 text main_infer.c host -DINFER -DDP=2
program text_ids text main_train.c host -DVOCABULARY=1000
program write_ids text main_infer.c host -DINFER -DVOCABULARY=1000
