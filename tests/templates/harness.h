// harness.h: device buffers and comparison for the tests of templates, on both machines.
//
// Compiled by g++ the kernels run at once on this thread: mp_host_enqueue is defined here, without streams; or, with emulated/gpu.h, as on
// a GPU, thread by thread. Compiled by nvcc they run on the GPU. Every buffer has guard elements on both sides, which must keep their value.
#ifndef HARNESS_H
#define HARNESS_H

#include "mp_kernel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vector>

#if defined __CUDACC__ && !defined EMULATED
static void *device_alloc(size_t bytes)
{
	void *memory;
	if (cudaMalloc(&memory, bytes) != cudaSuccess) {
		fprintf(stderr, "cudaMalloc(%zu) failed: %s\n", bytes, cudaGetErrorString(cudaGetLastError()));
		exit(3);
	}
	return memory;
}
static void device_free(void *memory) { cudaFree(memory); }
static void device_copy(void *to, const void *from, size_t bytes)
{
	cudaError_t error = cudaMemcpy(to, from, bytes, cudaMemcpyDefault);
	if (error != cudaSuccess) {
		fprintf(stderr, "a kernel or copy failed: %s\n", cudaGetErrorString(error));
		exit(3);
	}
}
void mp_cuda_failed(cudaError_t error, const char *call, const char *file, int line)
{
	fprintf(stderr, "%s:%d: %s: %s\n", file, line, call, cudaGetErrorString(error));
	exit(3);
}
#else
static void *device_alloc(size_t bytes) { return aligned_alloc(256, (bytes + 255) / 256 * 256); }
static void device_free(void *memory) { free(memory); }
static void device_copy(void *to, const void *from, size_t bytes) { memcpy(to, from, bytes); }
#ifndef EMULATED
void mp_host_enqueue(cudaStream_t, const char *, void (*run)(void *), const void *closure, size_t bytes)
{
	std::vector<char> copy((const char *)closure, (const char *)closure + bytes);
	run(copy.data());
}
#endif
#endif

static struct {
	const char *name;
	int cases, failures;
	double worst;           // largest error / tolerance of the group
	int failed_groups;
} group;

// Ends the group of cases before and starts the next; NULL: ends the table.
static inline void start_group(const char *name)
{
	if (group.name) {
		printf("%-28s %5d cases  largest error %5.2f of the tolerance  %s\n", group.name, group.cases, group.worst,
		       group.failures ? "FAILED" : "ok");
		group.failed_groups += group.failures > 0;
	}
	group.name = name;
	group.cases = group.failures = 0;
	group.worst = 0;
}

static inline void fail_case(const char *shape, const char *what, long at, double got, double want)
{
	if (group.failures++ < 3)
		fprintf(stderr, "%s %s: %s at %ld: %.9g, expected %.9g\n", group.name, shape, what, at, got, want);
}

enum { GUARD = 64 };

template <class T> struct Buffer {
	std::vector<T> host;    // guards included
	T *device;
	long count;

	explicit Buffer(long n) : host(n + 2 * GUARD, (T)77), count(n)
	{
		device = (T *)device_alloc(host.size() * sizeof(T));
		upload();
	}
	Buffer(const Buffer &) = delete;
	~Buffer() { device_free(device); }
	T &operator[](long i) { return host[GUARD + i]; }
	T *at() { return device + GUARD; }
	void upload() { device_copy(device, host.data(), host.size() * sizeof(T)); }
	void download() { device_copy(host.data(), device, host.size() * sizeof(T)); }
};

// Numbers in [-1, 1), the same on every machine.
static inline double random_number()
{
	static unsigned long long state = 88172645463325252ull;
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (double)(state >> 11) / 4503599627370496.0 - 1.0;
}

template <class T> static void fill_random(Buffer<T> &buffer, double scale)
{
	for (long i = 0; i < buffer.count; i++)
		buffer[i] = (T)(random_number() * scale);
	buffer.upload();
}

// Labels in [-1, cols).
static inline void fill_labels(Buffer<int> &label, long cols)
{
	for (long i = 0; i < label.count; i++)
		label[i] = (int)((random_number() + 1) / 2 * (double)(cols + 1)) - 1;
	label.upload();
}

// Downloads the buffer and compares: |got - want| <= steps * epsilon * (|want| + size), NaN with NaN, infinities
// exactly; then the guards.
template <class T>
static void expect(Buffer<T> &got, const std::vector<double> &want, double steps, double size, const char *shape)
{
	const double epsilon = sizeof(T) == 2 ? 4e-3 : sizeof(T) == 4 ? 1.2e-7 : 2.3e-16;
	group.cases++;
	got.download();
	for (long i = 0; i < got.count; i++) {
		double value = (double)got[i];
		if (value == want[i] || (value != value && want[i] != want[i]))
			continue;
		double tolerance = steps * epsilon * (fabs(want[i]) + size) + 1e-38; // subnormals lose bits
		double error = fabs(value - want[i]) / tolerance;
		if (error > group.worst)
			group.worst = error;
		if (!(error <= 1)) {
			fail_case(shape, "wrong value", i, value, want[i]);
			return;
		}
	}
	for (long i = 0; i < GUARD; i++)
		if (got.host[i] != (T)77 || got.host[GUARD + got.count + i] != (T)77)
			fail_case(shape, "guard overwritten", i, (double)got.host[i], 77);
}

static inline const char *shape_text(long a, long b = -1, long c = -1, long d = -1, long e = -1)
{
	static char text[120];
	int length = snprintf(text, sizeof text, "[%ld", a);
	for (long extent : {b, c, d, e})
		if (extent >= 0)
			length += snprintf(text + length, sizeof text - length, ",%ld", extent);
	snprintf(text + length, sizeof text - length, "]");
	return text;
}

#endif
