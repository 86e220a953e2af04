// gpu.h: makes g++ take what nvcc takes, so that the tests of templates run what GPUs run, thread by thread on the CPU:
// g++ -x c++ -std=c++17 -O1 -D__CUDACC__ -Itests/templates/emulated -Iruntime/host -Iruntime -include tests/templates/emulated/gpu.h TEST.cu
#define EMULATED
#define __shared__ static
#include "../../cuda/emulate.h"

// What a thread fetches into shared memory is not there before it waits.
#define MP_FETCHES
struct EmulatedFetch {
	char *to;
	const void *from;
};
static std::vector<std::vector<EmulatedFetch>> emulated_halves[1024];   // by thread, those under way, the last one not yet complete

inline int mp_shared_of_block() { return EMULATED_SHARED; }
inline char *mp_fetched() { return (char *)shared; }

inline void mp_fetch(char *to, const void *from)
{
	std::vector<std::vector<EmulatedFetch>> &halves = emulated_halves[threadIdx.x];
	if (halves.empty())
		halves.emplace_back();
	halves.back().push_back({to, from});
}

inline void mp_fetched_half()
{
	if (emulated_halves[threadIdx.x].empty())
		emulated_halves[threadIdx.x].emplace_back();
	emulated_halves[threadIdx.x].emplace_back();
}

template <int left> void mp_wait_for_fetched()
{
	std::vector<std::vector<EmulatedFetch>> &halves = emulated_halves[threadIdx.x];
	while (halves.size() > left + 1) {
		for (const EmulatedFetch &fetch : halves[0])
			memcpy(fetch.to, fetch.from, 16);
		halves.erase(halves.begin());
	}
}

#define alignas(bytes) __attribute__((aligned(bytes))) // behind `static`, where the standard has no place for it
#include "mp_kernel.h"

#undef MP_LAUNCH_SHARED
#define MP_LAUNCH_SHARED(kernel, grid, block, bytes, stream, ...) ((void)(bytes), (void)(stream), emulate(grid, block, [&] { kernel(__VA_ARGS__); }))
