#!/bin/sh
# Builds the stand-alone benchmarks of this folder: tests/bench/build.sh [FOLDER]. CUDA_HOME says where the toolkit is; cuDNN
# is there or where the compiler looks anyway.
set -e
cuda=${CUDA_HOME:-/usr/local/cuda}
folder=${1:-build/bench}
cd "$(dirname "$0")/../.."
mkdir -p "$folder"
${CC:-cc} -std=c11 -O2 -Wall -Wextra tests/bench/conv_engines.c -I"$cuda/include" -L"$cuda/lib64" -Wl,-rpath,"$cuda/lib64" \
	-lcudnn -lcudart -o "$folder/conv_engines"
echo "$folder/conv_engines"
