// gpu.h: makes g++ take what nvcc takes, so that the tests of templates run what GPUs run, thread by thread on the CPU:
// g++ -x c++ -std=c++17 -O1 -D__CUDACC__ -Itests/templates/emulated -Iruntime/host -Iruntime -include tests/templates/emulated/gpu.h TEST.cu
#define EMULATED
#define __shared__ static
#include "../../cuda/emulate.h"

#define alignas(bytes) __attribute__((aligned(bytes))) // behind `static`, where the standard has no place for it
#include "mp_kernel.h"

#undef MP_LAUNCH
#define MP_LAUNCH(kernel, grid, block, stream, ...) ((void)(stream), emulate(grid, block, [&] { kernel(__VA_ARGS__); }))
