#!/bin/sh
# Builds and runs the tests of data, random numbers and checkpoints. From the repository's root:
#
#     tests/data/run.sh            with gcc, AddressSanitizer and UndefinedBehaviorSanitizer
#     CC=clang SANITIZE=thread tests/data/run.sh
set -eu
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sources='random json data data_files data_tensors idx synthetic synthetic_tokens token_files tokens loader safetensors safetensors_convert safetensors_layout
	checkpoint_shard checkpoint_halves checkpoint_check checkpoint_init checkpoint_folder checkpoint_save checkpoint_load outputs'
${CC:-gcc} -std=c11 -g -O2 -Wall -Wextra -Werror -ffp-contract=off -fsanitize="${SANITIZE:-address,undefined}" \
	-fno-sanitize-recover=all -Iruntime/host -Iruntime -o "$work/data-test" tests/data/*.c \
	$(for s in $sources; do echo "runtime/$s.c"; done) -lz -lm -lpthread
mkdir "$work/files"
numpy=$(/usr/bin/python3 -c 'import numpy; print("yes")' 2>/dev/null || echo "skipped: numpy is not installed")
[ "$numpy" != yes ] || /usr/bin/python3 -B tests/data/make.py "$work/files"
"$work/data-test" "$work/files"
[ "$numpy" != yes ] || numpy=$(/usr/bin/python3 -B tests/data/check.py "$work/files")
echo "$numpy"
