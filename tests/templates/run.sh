#!/bin/sh
# sh tests/templates/run.sh            (in the repository's root)
#
# Builds and runs the tests of templates/, runtime/mp_kernel.h, gen/emit/template.c and gen/embed.c for the host, kernels also thread by
# thread as a GPU runs them, then compiles every template with nvcc where there is one. On a machine with a GPU the same tests run there too.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
warn="-Wall -Wextra -Werror"
host="${CXX:-g++} -x c++ -std=c++17 -O3 -march=native -ffp-contract=off -fno-math-errno $warn -Iruntime/host -Iruntime -I$work"
cuda="${NVCC:-nvcc} -std=c++17 -O3 -fmad=false -arch=${ARCH:-sm_90} -Iruntime -I$work"

# The templates with elements in bf16: their arithmetic is in another type.
for template in $(grep -l '^typedef float real;' templates/*.cu); do
	sed 's/^typedef float real;/typedef mp_bf16 real;/' "$template" > "$work/bf16_${template#templates/}"
done

for test in test_math test_kernels test_norms test_bf16 test_instances; do
	$host tests/templates/$test.cu -o "$work/$test"
	"$work/$test"
done

# The same as GPUs run them, in the types that they have there: each thread of a block by itself on the CPU (tests/cuda/emulate.h).
emulated="${CXX:-g++} -x c++ -std=c++17 -O1 -ffp-contract=off -Wall -Werror -Wno-unknown-pragmas -D__CUDACC__ -Itests/templates/emulated -Iruntime/host -Iruntime"
for test in test_kernels test_norms test_bf16 test_instances; do
	$emulated -I"$work" -include tests/templates/emulated/gpu.h tests/templates/$test.cu -o "$work/$test-emulated"
	"$work/$test-emulated" > "$work/said" || { cat "$work/said"; exit 1; }
	sed 's/^/as on a GPU: /' "$work/said"
done

${CC:-gcc} -std=c11 $warn tests/templates/test_expand.c gen/emit/template.c gen/common.c gen/diagnostics.c \
	-o "$work/test_expand"
"$work/test_expand"

# Every template compiles as it stands, and all of them in one file when instantiated.
"$work/test_expand" --all "$work/kernels.cu"
for template in templates/*.cu; do
	$host -fsyntax-only "$template"
done
$host -c "$work/kernels.cu" -o "$work/template.o"
for bench in bench_kernels bench_norms; do
	$host -fsyntax-only tests/templates/$bench.cu
done
echo "templates compile with ${CXX:-g++}: ok"

# The emitted build file makes the host program, from its own runtime and from one that was built before.
if command -v ninja >/dev/null; then
	mkdir -p "$work/out/runtime/host" "$work/out/runtime/cuda"
	(cd "$work/out" && touch program_0.cu kernels.cu devices.c runtime/launch.c runtime/host/device.c runtime/cuda/gemm.c runtime/cuda/products_sm90.cu)
	echo 'int main(void) { return 0; }' > "$work/out/main.c"
	cp tests/templates/expected/build.ninja "$work/out"
	(cd "$work/out" && ninja --quiet host && "bin/two words-host" && ninja -n >/dev/null
	cp build-host/libmp-host.a .. && rm -r build-host bin .ninja* runtime
	sed "s|^host_runtime =.*|host_runtime = $work/libmp-host.a|" build.ninja > build-host.ninja
	ninja --quiet -f build-host.ninja host && "bin/two words-host")
	echo "the build file makes a host program: ok"
fi

# An embedded file is what was embedded, bytes that C would misread included.
${CC:-gcc} -std=c11 $warn gen/embed.c -o "$work/embed"
printf 'a "b" \\n ??= \1777\tend, no newline' > "$work/odd"
: > "$work/empty"
(root=$(pwd) && cd "$work" && ./embed embedded.c odd empty embed && ${CC:-gcc} -std=c11 $warn -I"$root/gen" \
	"$root/tests/templates/test_embed.c" embedded.c -o test_embed && ./test_embed embed empty odd)

if command -v "${NVCC:-nvcc}" >/dev/null; then
	printf '#include "%s"\n' "$PWD"/templates/*.cu > "$work/all.cu"
	$cuda -ptx "$work/all.cu" -o "$work/template.ptx"
	$cuda -Xptxas -v -c "$work/kernels.cu" -o "$work/template.o" 2> "$work/said" || { cat "$work/said"; exit 1; } # what it launches, and machine code
	echo "templates compile with nvcc: ok"
	# Nothing lies in memory that belongs in registers: arrays, or operands that a kernel indexes. (The sine of a large angle needs 32 bytes.)
	sed -n 's/.*Function properties for //p; s/^ *\([0-9]* bytes stack frame.*\)/\1/p' "$work/said" | paste - - > "$work/frames"
	if [ ! -s "$work/frames" ] || grep -v -e '	0 bytes stack frame, 0 bytes spill stores' -e 'rope_kernel.*	32 bytes stack frame, 0 bytes spill' "$work/frames"; then
		echo "FAIL a kernel keeps what is above in memory"
		exit 1
	fi
	echo "kernels keep all in registers: ok"
	if nvidia-smi >/dev/null 2>&1; then
		for test in test_math test_kernels test_norms test_bf16 test_instances; do
			$cuda tests/templates/$test.cu -o "$work/$test-cuda"
			"$work/$test-cuda"
		done
	else
		echo "no GPU here: the tests ran as on a GPU, thread by thread"
	fi
else
	echo "skipped: no nvcc, so nothing was compiled for CUDA"
fi
