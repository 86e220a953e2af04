// emulated.h: what tests of a file of kernels need around it, on the CPU (emulate.h).
#ifndef EMULATED_H
#define EMULATED_H

#include "emulate.h"

#include "mp.h"

#define CHECK(condition, ...) do { if (!(condition)) { \
	fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition); \
	fprintf(stderr, __VA_ARGS__); fputc('\n', stderr); exit(1); } } while (0)

// The test's: runs one of the kernels by emulate().
static cudaError_t cudaLaunchKernel(const void *kernel, dim3 grid, dim3 block, void **arguments, size_t shared_bytes, cudaStream_t stream);

extern "C" void mp_fail(enum mp_exit, const char *format, ...)
{
	fprintf(stderr, "failed: %s\n", format);
	exit(1);
}

extern "C" void mp_cuda_failed(cudaError_t, const char *call, const char *, int)
{
	fprintf(stderr, "failed: %s\n", call);
	exit(1);
}

#endif
