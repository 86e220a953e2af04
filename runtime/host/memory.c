// memory.c: device and pinned memory, copies and fills.
//
// Problem: ranks of other processes must read a rank's device memory without copying it through a buffer, and
// a program's mistake (a host pointer where a device pointer belongs, a range past the end) should be
// found here and not on the GPU. Method: every allocation is an anonymous shared file between two guard
// pages, listed in a table of the process. Pages appear when touched, so an arena costs what is used of it.
#define _GNU_SOURCE
#include "memory.h"
#include "device.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <unistd.h>

enum { LARGE_FILL = 1 << 20 };   // bytes from which finding untouched pages is worth a system call

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct segment *segments;
static size_t segment_count, segment_room;
static uint64_t last_number;

// ---------------------------------------------------------------------------------------------------------
// Segments

static bool map_segment(struct segment *segment)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	if (segment->bytes > SIZE_MAX / 2)
		return false;
	segment->mapped = (segment->bytes + page - 1) / page * page;
	segment->descriptor = memfd_create("mp_host memory", MFD_CLOEXEC);
	if (segment->descriptor < 0)
		return false;
	if (!ftruncate(segment->descriptor, (off_t)segment->mapped)) {
		char *guarded = mmap(NULL, segment->mapped + 2 * page, PROT_NONE,
		                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (guarded != MAP_FAILED) {
			segment->base = mmap(guarded + page, segment->mapped, PROT_READ | PROT_WRITE,
			                     MAP_SHARED | MAP_FIXED | MAP_NORESERVE, segment->descriptor, 0);
			if (segment->base != MAP_FAILED)
				return true;
			munmap(guarded, segment->mapped + 2 * page);
		}
	}
	close(segment->descriptor);
	return false;
}

static void unmap_segment(const struct segment *segment)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	munmap(segment->base - page, segment->mapped + 2 * page);
	close(segment->descriptor);
}

static bool list_segment(struct segment *segment)
{
	bool listed = true;
	pthread_mutex_lock(&lock);
	if (segment_count == segment_room) {
		size_t room = segment_room ? 2 * segment_room : 64;
		struct segment *larger = realloc(segments, room * sizeof *larger);
		listed = larger != NULL;
		if (listed) {
			segments = larger;
			segment_room = room;
		}
	}
	if (listed) {
		segment->number = ++last_number;
		segments[segment_count++] = *segment;
	}
	pthread_mutex_unlock(&lock);
	return listed;
}

static cudaError_t allocate(void **memory, size_t bytes, bool device)
{
	struct segment segment = {.bytes = bytes, .device = device};
	if (!memory)
		return host_error(cudaErrorInvalidValue);
	*memory = NULL;
	if (!bytes)
		return cudaSuccess;
	if (!map_segment(&segment))
		return host_error(cudaErrorMemoryAllocation);
	if (!list_segment(&segment)) {
		unmap_segment(&segment);
		return host_error(cudaErrorMemoryAllocation);
	}
	*memory = segment.base;
	return cudaSuccess;
}

static cudaError_t release(void *memory, bool device)
{
	struct segment found = {0};
	if (!memory)
		return cudaSuccess;
	cudaError_t error = cudaDeviceSynchronize(); // as CUDA does: work in flight may use the memory
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < segment_count; i++)
		if (segments[i].base == memory && segments[i].device == device) {
			found = segments[i];
			segments[i] = segments[--segment_count];
			break;
		}
	if (!segment_count) {
		free(segments);
		segments = NULL;
		segment_room = 0;
	}
	pthread_mutex_unlock(&lock);
	if (!found.base)
		return host_error(cudaErrorInvalidValue);
	unmap_segment(&found);
	return error;
}

bool host_find_segment(const void *memory, size_t bytes, struct segment *found)
{
	uintptr_t address = (uintptr_t)memory;
	bool any = false;
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < segment_count && !any; i++) {
		uintptr_t base = (uintptr_t)segments[i].base;
		any = address >= base && address - base <= segments[i].bytes &&
		      bytes <= segments[i].bytes - (address - base);
		if (any)
			*found = segments[i];
	}
	pthread_mutex_unlock(&lock);
	return any;
}

cudaError_t cudaMalloc(void **memory, size_t bytes)
{
	return allocate(memory, bytes, true);
}

cudaError_t cudaMallocHost(void **memory, size_t bytes)
{
	return allocate(memory, bytes, false);
}

cudaError_t cudaHostAlloc(void **memory, size_t bytes, unsigned flags)
{
	(void)flags; // all of it is portable and mapped
	return allocate(memory, bytes, false);
}

cudaError_t cudaFree(void *memory)
{
	return release(memory, true);
}

cudaError_t cudaFreeHost(void *memory)
{
	return release(memory, false);
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total)
{
	struct sysinfo info;
	if (sysinfo(&info))
		return host_error(cudaErrorUnknown);
	*available = (size_t)info.freeram * info.mem_unit;
	*total = (size_t)info.totalram * info.mem_unit;
	return cudaSuccess;
}

// ---------------------------------------------------------------------------------------------------------
// Copies and fills

// Pageable: memory that CUDA did not allocate. Copies of it return when its bytes have been read or written.
static cudaError_t check_side(const void *memory, size_t bytes, bool device, bool any, bool *pageable)
{
	struct segment segment;
	bool found = host_find_segment(memory, bytes, &segment);
	if (!found && (device || host_find_segment(memory, 0, &segment)))
		return cudaErrorInvalidValue; // not CUDA's, or past the end of the allocation
	if (found && !any && segment.device != device)
		return cudaErrorInvalidMemcpyDirection;
	*pageable |= !found;
	return cudaSuccess;
}

static cudaError_t copy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t handle,
                        bool *pageable)
{
	struct CUstream_st *stream = host_stream(handle);
	bool any = kind == cudaMemcpyDefault;
	bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
	bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
	if (!stream)
		return host_error(cudaErrorInvalidResourceHandle);
	if (!bytes)
		return cudaSuccess;
	cudaError_t error = check_side(to, bytes, to_device, any, pageable);
	if (!error)
		error = check_side(from, bytes, from_device, any, pageable);
	if (error)
		return host_error(error);
	struct work work = {.kind = MP_HOST_COPY, .name = "copy", .copy = {to, from, bytes}};
	return host_enqueue(stream, &work, NULL, 0);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream)
{
	bool pageable = false;
	cudaError_t error = copy(to, from, bytes, kind, stream, &pageable);
	return error || !pageable ? error : cudaStreamSynchronize(stream);
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind)
{
	bool pageable = false;
	cudaError_t error = copy(to, from, bytes, kind, NULL, &pageable);
	return error ? error : cudaStreamSynchronize(NULL);
}

// Pages that were never touched are zero already, and a program that clears its arena must not make all of it
// real: a large fill with zero asks the file which parts hold data.
void host_fill(const struct work *work)
{
	char *to = work->fill.to;
	off_t begin = (off_t)work->fill.offset, end = begin + (off_t)work->fill.bytes;
	if (work->fill.value || work->fill.bytes < LARGE_FILL) {
		memset(to, work->fill.value, work->fill.bytes);
		return;
	}
	for (off_t at = begin; at < end;) {
		off_t data = lseek(work->fill.descriptor, at, SEEK_DATA);
		if (data < 0 || data >= end)
			break; // no data behind `at`
		off_t hole = lseek(work->fill.descriptor, data, SEEK_HOLE);
		at = hole < 0 || hole > end ? end : hole;
		memset(to + (data - begin), 0, (size_t)(at - data));
	}
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t handle)
{
	struct CUstream_st *stream = host_stream(handle);
	struct segment segment;
	if (!stream)
		return host_error(cudaErrorInvalidResourceHandle);
	if (!bytes)
		return cudaSuccess;
	if (!host_find_segment(to, bytes, &segment))
		return host_error(cudaErrorInvalidValue);
	size_t offset = (size_t)((char *)to - segment.base);
	struct work work = {.kind = MP_HOST_FILL, .name = "fill",
	                    .fill = {to, value, segment.descriptor, bytes, offset}};
	return host_enqueue(stream, &work, NULL, 0);
}
