#!/bin/sh
# Builds the stand-alone benchmarks of this folder: tests/bench/build.sh [FOLDER]. CUDA_HOME says where the toolkit is; cuDNN
# is there or where the compiler looks anyway. What lacks its library here is not built, and said.
cuda=${CUDA_HOME:-/usr/local/cuda}
folder=${1:-build/bench}
cd "$(dirname "$0")/../.." && mkdir -p "$folder" || exit 1
warn="-Wall -Wextra"
failed=0

built() {
	if "$@"; then echo "$name"; else echo "not built: $name" >&2; failed=1; fi
}

name=$folder/conv_engines
built ${CC:-cc} -std=c11 -O2 $warn tests/bench/conv_engines.c -I"$cuda/include" -L"$cuda/lib64" -Wl,-rpath,"$cuda/lib64" \
	-lcudnn -lcudart -o "$name"

host=runtime/host
name=$folder/conv_speed
${CXX:-c++} -x c++ -std=c++17 -O3 -march=native -ffp-contract=off $warn -c $host/activations.cu -o "$folder/activations.o" &&
built ${CC:-cc} -std=c11 -O3 -march=native -ffp-contract=off $warn -I$host -Iruntime tests/bench/conv_speed.c "$folder/activations.o" \
	$host/device.c $host/event.c $host/memory.c $host/trace.c $host/errors.c $host/comm.c $host/group.c $host/collective.c \
	$host/reduce.c $host/gemm.c $host/conv.c -lopenblas -lm -lpthread -o "$name"
exit $failed
