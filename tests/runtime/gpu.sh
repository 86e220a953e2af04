#!/bin/sh
# The hand-written program on a real GPU. "gpu.sh build DIR" compiles it (needs the CUDA Toolkit and NCCL) together with
# the host build; "gpu.sh run DIR" trains on one GPU with 2 and 4 ranks (--one-gpu) and compares the losses with the
# host's, prints "ok NAME" or "FAIL NAME", and shows how a failing rank ends the others.
set -e
root=$(cd "$(dirname "$0")/../.." && pwd)
out=$2
cuda=${CUDA:-/usr/local/cuda}

build() {
	mkdir -p "$out/gpu"
	"$root/tests/runtime/build.sh" "$out"
	for source in "$root"/runtime/*.c "$root"/runtime/cuda/*.c "$root/templates/main_train.c"; do
		gcc -std=c11 -O2 -ffp-contract=off -Wall -Wextra -I"$cuda/include" -I"$root/runtime" -c "$source" \
			-o "$out/gpu/$(basename "$source" .c).o"
	done
	for dp in 1 2; do
		"$cuda/bin/nvcc" -std=c++17 -O3 -arch="${ARCH:-sm_90}" -fmad=false -I"$root/runtime" -DDP=$dp \
			-c "$root/tests/runtime/tiny.cu" -o "$out/gpu/tiny.cu$dp"
		g++ "$out"/gpu/*.o "$out/gpu/tiny.cu$dp" -o "$out/gpu-train$dp" -L"$cuda/lib64" -L"$cuda/lib" \
			-Wl,-rpath,"$cuda/lib64" -lcudart -lcublasLt -lnccl -lz -lm -lpthread
	done
}

check() { # NAME: losses of the host and the GPU within 1e-5
	python3 - "$out/host.log" "$out/gpu.log" "$1" <<'PY'
import json, sys
a, b = ([json.loads(line).get("loss", 0) for line in open(path)] for path in sys.argv[1:3])
good = len(a) == len(b) > 1 and all(abs(x - y) <= 1e-5 * abs(x) for x, y in zip(a, b))
print("ok" if good else "FAIL", sys.argv[3], a[-2], b[-2])
PY
}

run() {
	options="--data synthetic --eval synthetic --steps 20 --timeout 120"
	for dp in 1 2; do
		"$out/train$dp" $options --log "$out/host.log" >/dev/null
		"$out/gpu-train$dp" $options --log "$out/gpu.log" --trace "$out/trace.json" --one-gpu
		check "gpu_dp$dp"
		python3 -m json.tool "$out/trace.json" >/dev/null && echo "ok trace_dp$dp" || echo "FAIL trace_dp$dp"
	done
	"$out/gpu-train1" $options && echo "FAIL too_few_gpus" || echo "ok too_few_gpus: status $?" # on a machine of one GPU
	FAULT=fail:0:5 "$out/gpu-train2" $options --one-gpu && echo "FAIL failing_rank" || echo "ok failing_rank: status $? (3)"
	FAULT=hang:0:1 "$out/gpu-train1" $options --timeout 5 --one-gpu && echo "FAIL hang" || echo "ok hang: status $? (6)"
}

"$1"
