// emulate.h: runs CUDA kernels on the CPU as they are, so that their logic can be tested where there is no GPU: every thread of a
// block is a coroutine, and each barrier or exchange between lanes lets the others come as far. Blocks run one after another.
// The kernels are those that runtime/cuda launches with cudaLaunchKernel and one argument; the test says how to call them.
#ifndef EMULATE_H
#define EMULATE_H

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ucontext.h>
#include <vector>

#define __global__
#define __device__
#define __shared__
#define __launch_bounds__(threads)

struct Index {
	unsigned x, y, z;
};
struct dim3 : Index {
	dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : Index{x_, y_, z_} {}
};

enum { EMULATED_STACK = 64 * 1024, EMULATED_SHARED = 256 * 1024, EMULATED_WARP = 32 };

struct Emulated {
	ucontext_t scheduler;
	std::vector<ucontext_t> threads;
	std::vector<char> stacks;
	std::vector<bool> done;
	std::vector<float> lanes;               // what each thread offers in an exchange
	unsigned current;
	void (*run)();
};

inline Emulated emulated;
inline Index threadIdx, blockIdx, gridDim;
alignas(16) inline float shared[EMULATED_SHARED / sizeof(float)];

// Lets every other thread of the block come to its next barrier.
inline void emulated_yield()
{
	unsigned own = emulated.current;
	swapcontext(&emulated.threads[own], &emulated.scheduler);
	threadIdx = {own, 0, 0};
}

#define __syncthreads() emulated_yield()

inline float __shfl_xor_sync(unsigned, float value, int mask)
{
	unsigned own = emulated.current;
	emulated.lanes[own] = value;
	emulated_yield();
	float other = emulated.lanes[own ^ (unsigned)mask];
	emulated_yield();
	return other;
}

inline void emulated_thread()
{
	threadIdx = {emulated.current, 0, 0};
	emulated.run();
	emulated.done[emulated.current] = true;
	setcontext(&emulated.scheduler);
}

inline void emulate_block(unsigned threads, void (*run)())
{
	emulated.threads.resize(threads);
	emulated.stacks.resize((size_t)threads * EMULATED_STACK);
	emulated.done.assign(threads, false);
	emulated.lanes.assign(threads, 0);
	emulated.run = run;
	memset(shared, 0xff, sizeof shared);    // NaN
	for (unsigned t = 0; t < threads; t++) {
		getcontext(&emulated.threads[t]);
		emulated.threads[t].uc_stack.ss_sp = &emulated.stacks[(size_t)t * EMULATED_STACK];
		emulated.threads[t].uc_stack.ss_size = EMULATED_STACK;
		emulated.threads[t].uc_link = NULL;
		makecontext(&emulated.threads[t], emulated_thread, 0);
	}
	for (bool any = true; any;) {
		any = false;
		for (unsigned t = 0; t < threads; t++)
			if (!emulated.done[t]) {
				any = true;
				emulated.current = t;
				swapcontext(&emulated.scheduler, &emulated.threads[t]);
			}
	}
}

inline void emulate(dim3 grid, dim3 block, void (*run)())
{
	gridDim = grid;
	for (unsigned y = 0; y < grid.y; y++)
		for (unsigned x = 0; x < grid.x; x++) {
			blockIdx = {x, y, 0};
			emulate_block(block.x, run);
		}
}

#endif
