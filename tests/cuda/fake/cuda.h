// cuda.h: a stand-in for what runtime/cuda/engines.c calls of the CUDA driver, of the CUDA runtime beyond what runtime/host has, and of
// NCCL (cuda.c): streams that keep what is enqueued, as a graph does, and run it a little at a time when they are told to.
#ifndef FAKE_CUDA_H
#define FAKE_CUDA_H

#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>

typedef enum { CUDA_SUCCESS, CUDA_ERROR_INVALID_VALUE } CUresult;
typedef struct CUstream_st *CUstream;
typedef unsigned long long CUdeviceptr;
enum { CU_STREAM_MEM_OP_WAIT_VALUE_32 = 1, CU_STREAM_WAIT_VALUE_EQ = 1 };
typedef union {
	unsigned operation;
	struct {
		unsigned operation;
		CUdeviceptr address;
		uint32_t value;
		unsigned flags;
	} waitValue;
} CUstreamBatchMemOpParams;

typedef struct { char bytes[16]; } cudaUUID_t;
typedef struct { char reserved[64]; } cudaIpcMemHandle_t;
struct cudaDeviceProp { cudaUUID_t uuid; };
enum cudaDriverEntryPointQueryResult { cudaDriverEntryPointSuccess, cudaDriverEntryPointSymbolNotFound };
enum { cudaIpcMemLazyEnablePeerAccess = 1, cudaEnableDefault = 0 };
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device);
cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t *handle, void *memory);
cudaError_t cudaIpcOpenMemHandle(void **memory, cudaIpcMemHandle_t handle, unsigned flags);
cudaError_t cudaIpcCloseMemHandle(void *memory);
cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **function, unsigned version, unsigned long long flags,
                                             enum cudaDriverEntryPointQueryResult *found);

// ---------------------------------------------------------------------------------------------------------
// The test's own

#include "part_sums.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition, ...) do { if (!(condition)) { \
	fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition); \
	fprintf(stderr, __VA_ARGS__); fputc('\n', stderr); _Exit(1); } } while (0)

enum fake_kind { FAKE_COPY, FAKE_WAIT, FAKE_JOIN, FAKE_SUM, FAKE_WRITE, FAKE_CHECK };
struct fake_operation {
	enum fake_kind kind;
	int collective;                 // of the list, to which it belongs
	char *to;                       // FAKE_WAIT: the flag
	const char *from;
	size_t bytes;
	uint32_t value;                 // that the flag is to have
	int lane, passed;               // FAKE_JOIN: a stream of the same rank, and how many operations it is to have done
	struct mp_parts parts;
	enum mp_type type;
};

// A stream. What is enqueued is done at once until its rank's own one `keeps`; those that the rank makes beside are its lanes from 1 on.
enum { FAKE_LANES = 8 };
struct CUstream_st {
	int rank, lane;
	struct CUstream_st *lanes[FAKE_LANES];  // of all, which has itself as its first
	struct fake_operation *operations;
	int count, room;
	bool keeps, agreed;             // the ranks have agreed to go by copy engines: flags may be told
	int collective;                 // that is being enqueued
	char *flags;                    // that others tell, in this rank's memory
	size_t flag_bytes;
};

struct CUevent_st {
	int lane, passed;
};

struct ncclComm {
	int ranks;
	pthread_barrier_t barrier;
	const void *send[MP_EXCHANGE_RANKS];
};

// What the calling thread's rank has.
enum fake_lack { FAKE_NOTHING, FAKE_OWN_DEVICE, FAKE_HANDLE, FAKE_MAPPING, FAKE_DRIVER, FAKE_LACKS };
extern _Thread_local int fake_device;
extern _Thread_local cudaStream_t fake_own;
extern _Thread_local enum fake_lack fake_lack;
extern _Atomic int fake_mapped;         // memory of other ranks, by all ranks

void fake_enqueue(cudaStream_t stream, struct fake_operation operation);

// Carries out bytes [begin, end) of what an operation writes.
void fake_run(const struct fake_operation *operation, size_t begin, size_t end);

// An element of a type as an integer. What is added is mixed, so that another order, or an element twice, gives another sum.
uint64_t fake_element(const char *at, enum mp_type type);
static inline uint64_t fake_add(uint64_t sum, uint64_t x) { return sum * 31 + x; }

#endif
