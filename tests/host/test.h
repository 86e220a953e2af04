// test.h: checks, and ranks as threads, for the tests of the host stand-in.
#ifndef TEST_H
#define TEST_H

#define _GNU_SOURCE    // before any system header: tests include this one first

#include <cuda_runtime_api.h>
#include <mp_host.h>
#include <nccl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition, ...) do { if (!(condition)) { \
	fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition); \
	fprintf(stderr, __VA_ARGS__); fputc('\n', stderr); _Exit(1); } } while (0)
#define CUDA(call) do { cudaError_t e_ = (call); CHECK(e_ == cudaSuccess, "%s", cudaGetErrorString(e_)); } while (0)
#define NCCL(call) do { ncclResult_t r_ = (call); \
	CHECK(r_ == ncclSuccess, "%s: %s", ncclGetErrorString(r_), ncclGetLastError(NULL)); } while (0)

enum { MAX_RANKS = 8 };

// What a rank's body gets.
struct rank {
	int rank, size;
	ncclComm_t comm;                // of all ranks; the harness destroys it
	cudaStream_t stream;
	void *shared;                   // the case's own
};

// Runs body in `size` threads, each with a communicator of all.
void run_ranks(int size, void *shared, void (*body)(struct rank *));

// Runs a case once in each mode of MP_HOST_MODE and prints "ok NAME".
void run_case(const char *name, void (*run)(void));

// MP_HOST_MODE of the run.
const char *mode(void);

void *device_memory(size_t bytes);
cudaStream_t new_stream(void);
cudaEvent_t new_event(void);

#endif
