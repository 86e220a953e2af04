// memory.h: segments of device and pinned memory. Internal to runtime/host.
#ifndef MP_HOST_MEMORY_H
#define MP_HOST_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// One allocation: pages of an anonymous shared file, which a peer process opens as
// /proc/PID/fd/DESCRIPTOR and maps. Nothing has a name that could outlive the processes.
struct segment {
	char *base;
	size_t bytes;           // as asked for
	size_t mapped;          // whole pages
	uint64_t number;        // unique in this process
	int descriptor;
	bool device;            // cudaMalloc, not cudaMallocHost
};

struct work;

// Does the work of kind MP_HOST_FILL.
void host_fill(const struct work *work);

// Finds the segment that holds [memory, memory + bytes); false if none does.
bool host_find_segment(const void *memory, size_t bytes, struct segment *found);

#endif
