// mp_host.h: what the host stand-in offers beyond CUDA's and NCCL's own calls.
//
// Kernels: CUDA's <<<>>> is syntax, so the launch macro (runtime/mp_kernel.h) packs a kernel's arguments in a
// closure and enqueues it here. Traces: with no profiler to ask, the stand-in records what ran when. The
// environment variable MP_HOST_MODE (eager, late or random:SEED; see device.c) chooses when operations execute; a
// device reads it when its thread first uses it.
#ifndef MP_HOST_H
#define MP_HOST_H

#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum mp_host_kind {
	MP_HOST_KERNEL,
	MP_HOST_COPY,
	MP_HOST_FILL,
	MP_HOST_RECORD,
	MP_HOST_WAIT,
	MP_HOST_COMMUNICATION   // one NCCL call or one NCCL group
};

// One executed operation. A wait and a communication start when they reach the head of their stream.
struct mp_host_event {
	char stream[24];        // as mp_host_name_stream said, or "stream N" in order of creation
	char name[72];          // the kernel's name, "copy 4096", "ncclAllReduce 500500",
	                        // "ncclSend 8000 + ncclRecv 8000"
	enum mp_host_kind kind;
	uint64_t start, end;    // ns of CLOCK_MONOTONIC, which all processes of a machine share
};

// Enqueues run(closure) on the stream. The closure's `bytes` are copied bytewise (C++: trivially copyable, at
// most 16-byte aligned); `name` must live as long as the program. An error (a failed device, a stream
// of another thread) is what cudaGetLastError returns next.
void mp_host_enqueue(cudaStream_t stream, const char *name, void (*run)(void *closure), const void *closure,
                     size_t bytes);

// The name that traces show; at most 23 bytes are kept.
void mp_host_name_stream(cudaStream_t stream, const char *name);

// Starts recording what the calling thread's device executes; what was recorded before is dropped.
void mp_host_trace_start(void);

// Moves up to `capacity` of the oldest events to out, in order of completion, and returns their number. With
// out = NULL it returns the number that waits and moves nothing. Recording goes on.
size_t mp_host_trace_take(struct mp_host_event *out, size_t capacity);

// Ends recording and drops what was not taken.
void mp_host_trace_stop(void);

#ifdef __cplusplus
}
#endif
#endif
