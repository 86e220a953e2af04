// cuda.c: see cuda.h.
#define _GNU_SOURCE
#include "cuda.h"

#include "../../runtime/alone.h"

#include <string.h>

_Thread_local int fake_device;
_Thread_local cudaStream_t fake_own;
_Thread_local enum fake_lack fake_lack;
_Atomic int fake_mapped;

// ---------------------------------------------------------------------------------------------------------
// What the runtime has elsewhere

void mp_nccl_failed(ncclResult_t error, const char *call, const char *file, int line)
{
	mp_fail(MP_DEVICE_FAILED, "%s:%d: %s: %d", file, line, call, (int)error);
}

const char *cudaGetErrorString(cudaError_t error) { return error == cudaSuccess ? "no error" : "an error"; }

// ---------------------------------------------------------------------------------------------------------
// Streams

uint64_t fake_element(const char *at, enum mp_type type)
{
	uint64_t x = 0; // little-endian
	memcpy(&x, at, mp_type_bytes(type));
	return x;
}

void fake_run(const struct fake_operation *o, size_t begin, size_t end)
{
	size_t width = mp_type_bytes(o->type);

	if (o->kind == FAKE_COPY)
		memmove(o->to + begin, o->from + begin, end - begin);
	if (o->kind != FAKE_SUM)
		return;
	for (size_t at = begin; at < end; at += width) {
		uint64_t sum = 0;
		for (int part = 0; part < o->parts.count; part++)
			sum = fake_add(sum, fake_element((const char *)o->parts.at[part] + at, o->type));
		memcpy(o->to + at, &sum, width);
	}
}

void fake_enqueue(cudaStream_t s, struct fake_operation operation)
{
	const struct CUstream_st *own = s->lanes[0];

	operation.collective = own->collective;
	if (!own->keeps) {
		fake_run(&operation, 0, operation.bytes);
		return;
	}
	if (s->count == s->room) {
		s->room = s->room ? 2 * s->room : 64;
		s->operations = realloc(s->operations, (size_t)s->room * sizeof *s->operations);
		CHECK(s->operations, "no memory for %d operations", s->room);
	}
	s->operations[s->count++] = operation;
}

// Ranks that go on from the agreement at once may tell flags before this one does.
static void check_place(const struct CUstream_st *s, const char *to)
{
	CHECK(s->keeps || !s->agreed || to < s->flags || to >= s->flags + s->flag_bytes, "rank %d writes where others may have told flags", s->rank);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream)
{
	check_place(stream->lanes[0], to);
	CHECK(!stream->lanes[0]->keeps || kind == cudaMemcpyDeviceToDevice || (kind == cudaMemcpyHostToDevice && bytes == sizeof(uint32_t)),
	      "rank %d copies %zu bytes from or to the host", stream->rank, bytes);
	fake_enqueue(stream, (struct fake_operation){.kind = FAKE_COPY, .to = to, .from = from, .bytes = bytes});
	return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream)
{
	check_place(stream, to);
	CHECK(!stream->keeps, "rank %d fills memory in a step", stream->rank);
	memset(to, value, bytes);
	return cudaSuccess;
}

void mp_sum_parts(void *to, struct mp_parts parts, size_t bytes, enum mp_type type, cudaStream_t stream)
{
	CHECK(bytes % mp_type_bytes(type) == 0, "rank %d adds up %zu bytes", stream->rank, bytes);
	fake_enqueue(stream, (struct fake_operation){.kind = FAKE_SUM, .to = to, .bytes = bytes, .parts = parts, .type = type});
}

// One after another, which is all that CUDA says.
static CUresult enqueue_batch(CUstream stream, unsigned count, CUstreamBatchMemOpParams *params, unsigned flags)
{
	CHECK(flags == 0 && count && stream->lanes[0]->keeps, "flags are %u, waits %u", flags, count);
	for (unsigned i = 0; i < count; i++) {
		if (params[i].operation != CU_STREAM_MEM_OP_WAIT_VALUE_32 || params[i].waitValue.flags != CU_STREAM_WAIT_VALUE_EQ)
			return CUDA_ERROR_INVALID_VALUE;
		fake_enqueue(stream, (struct fake_operation){.kind = FAKE_WAIT, .to = (char *)params[i].waitValue.address, .value = params[i].waitValue.value});
	}
	return CUDA_SUCCESS;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
	CHECK(!stream->keeps, "rank %d waits in a step", stream->rank);
	return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
	*least = *greatest = 0;
	return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority)
{
	int lane = 1;

	while (lane < FAKE_LANES && fake_own->lanes[lane])
		lane++;
	CHECK(lane < FAKE_LANES && flags == cudaStreamNonBlocking && priority == 0, "lane %d, flags %u", lane, flags);
	*stream = fake_own->lanes[lane] = mp_allocate(sizeof **stream);
	(*stream)->rank = fake_own->rank;
	(*stream)->lane = lane;
	(*stream)->lanes[0] = fake_own;
	return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
	stream->lanes[0]->lanes[stream->lane] = NULL;
	free(stream);
	return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
	CHECK(flags == cudaEventDisableTiming, "flags %u", flags);
	*event = mp_allocate(sizeof **event);
	return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
	free(event);
	return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
	event->lane = stream->lane;
	event->passed = stream->count;
	return cudaSuccess;
}

// For what the event stands for now.
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
	CHECK(flags == 0 && stream->lanes[0]->keeps, "flags %u", flags);
	fake_enqueue(stream, (struct fake_operation){.kind = FAKE_JOIN, .lane = event->lane, .passed = event->passed});
	return cudaSuccess;
}

cudaError_t cudaMallocHost(void **memory, size_t bytes)
{
	*memory = mp_allocate(bytes);
	return cudaSuccess;
}

cudaError_t cudaFreeHost(void *memory)
{
	free(memory);
	return cudaSuccess;
}

// ---------------------------------------------------------------------------------------------------------
// Devices, each rank's own; memory of other ranks, which is where they have it

cudaError_t cudaGetLastError(void) { return cudaSuccess; }

cudaError_t cudaGetDevice(int *device)
{
	*device = fake_device;
	return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device)
{
	memset(properties, 0, sizeof *properties);
	properties->uuid.bytes[0] = (char)(fake_lack == FAKE_OWN_DEVICE ? !device : device);
	return cudaSuccess;
}

cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t *handle, void *memory)
{
	if (fake_lack == FAKE_HANDLE)
		return cudaErrorNotSupported;
	memset(handle, 0, sizeof *handle);
	memcpy(handle, &memory, sizeof memory);
	return cudaSuccess;
}

cudaError_t cudaIpcOpenMemHandle(void **memory, cudaIpcMemHandle_t handle, unsigned flags)
{
	if (fake_lack == FAKE_MAPPING || flags != cudaIpcMemLazyEnablePeerAccess)
		return cudaErrorNotSupported;
	memcpy(memory, &handle, sizeof *memory);
	fake_mapped++;
	return cudaSuccess;
}

cudaError_t cudaIpcCloseMemHandle(void *memory)
{
	CHECK(memory, "NULL was not mapped");
	fake_mapped--;
	return cudaSuccess;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **function, unsigned version, unsigned long long flags,
                                             enum cudaDriverEntryPointQueryResult *found)
{
	CUresult (*batch)(CUstream, unsigned, CUstreamBatchMemOpParams *, unsigned) = enqueue_batch;

	CHECK(!strcmp(name, "cuStreamBatchMemOp") && version >= 12000 && flags == cudaEnableDefault, "%s of version %u", name, version);
	*found = fake_lack == FAKE_DRIVER ? cudaDriverEntryPointSymbolNotFound : cudaDriverEntryPointSuccess;
	if (fake_lack != FAKE_DRIVER)
		memcpy(function, &batch, sizeof batch);
	return cudaSuccess;
}

// ---------------------------------------------------------------------------------------------------------
// NCCL, between threads

static void meet(ncclComm_t comm) { pthread_barrier_wait(&comm->barrier); }

ncclResult_t ncclAllGather(const void *send, void *receive, size_t count, ncclDataType_t type, ncclComm_t comm, cudaStream_t stream)
{
	CHECK(type == ncclInt8 && !stream->keeps, "type %d", (int)type);
	comm->send[stream->rank] = send;
	meet(comm);
	for (int rank = 0; rank < comm->ranks; rank++)
		if (rank != stream->rank)
			memcpy((char *)receive + (size_t)rank * count, comm->send[rank], count);
	meet(comm);
	return ncclSuccess;
}

ncclResult_t ncclAllReduce(const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream)
{
	int32_t least = INT32_MAX;

	CHECK(type == ncclInt32 && op == ncclMin && count == 1 && !stream->keeps, "type %d, operation %d", (int)type, (int)op);
	comm->send[stream->rank] = send;
	meet(comm);
	for (int rank = 0; rank < comm->ranks; rank++)
		if (*(const int32_t *)comm->send[rank] < least)
			least = *(const int32_t *)comm->send[rank];
	meet(comm);
	stream->agreed = true;
	check_place(stream, receive);
	memcpy(receive, &least, sizeof least);
	return ncclSuccess;
}
