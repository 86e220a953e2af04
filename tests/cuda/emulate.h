// emulate.h: runs CUDA kernels on the CPU as they are, so that their logic can be tested where there is no GPU: every thread of a
// block is a coroutine, which lets the others run at each barrier and at each exchange between the lanes of a warp. Blocks run one after
// another, or all together where they wait for one another. A barrier that not all threads of the block reach, or an exchange that not all
// lanes of the warp take part in, ends the program. What is in static shared memory is only there when `__shared__` is defined before as `static`; dynamic shared memory is `shared`.
#ifndef EMULATE_H
#define EMULATE_H

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <ucontext.h>
#include <vector>

#define __global__
#define __device__
#define __grid_constant__
#define __host__
#define __forceinline__ inline
#ifndef __shared__
#define __shared__
#endif
#define __launch_bounds__(...)

struct Index {
	unsigned x, y, z;
};
struct dim3 : Index {
	dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : Index{x_, y_, z_} {}
};

enum { EMULATED_STACK = 64 * 1024, EMULATED_SHARED = 256 * 1024 };
static const unsigned EMULATED_WARP = 32;

// A place where a thread or the scheduler left off, and how to go from one to another. On x86-64 without the system calls of swapcontext,
// which would be most of the time.
#ifdef __x86_64__
typedef void *EmulatedPlace;            // the stack pointer; the registers that a call preserves lie there

__asm__(".text\n.type emulated_switch, @function\nemulated_switch:\n"
        "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
        "movq %rsp, (%rdi)\nmovq (%rsi), %rsp\n"
        "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n");
extern "C" void emulated_switch(EmulatedPlace *from, EmulatedPlace *to);

inline void emulated_begin(EmulatedPlace &place, char *stack, size_t bytes, void (*run)())
{
	void **top = (void **)(((uintptr_t)stack + bytes) / 16 * 16) - 2; // as behind a call
	*top = (void *)run;
	place = top - 6;
}
#else
typedef ucontext_t EmulatedPlace;

inline void emulated_switch(EmulatedPlace *from, EmulatedPlace *to) { swapcontext(from, to); }
inline void emulated_begin(EmulatedPlace &place, char *stack, size_t bytes, void (*run)())
{
	getcontext(&place);
	place.uc_stack.ss_sp = stack;
	place.uc_stack.ss_size = bytes;
	place.uc_link = NULL;
	makecontext(&place, run, 0);
}
#endif

// Threads that wait for one another: the block at a barrier, or a warp in an exchange.
struct EmulatedMeeting {
	unsigned arrived, round;
};

struct Emulated {
	EmulatedPlace scheduler;
	std::vector<EmulatedPlace> threads;
	std::vector<char> stacks;
	std::vector<bool> done;
	std::vector<uint64_t> lanes;            // what each thread offers in an exchange
	std::vector<EmulatedMeeting> blocks, warps;
	unsigned current, count, together;      // count: threads of a block; together: blocks that run at once
	bool moved;                             // since the scheduler began its round
	const std::function<void()> *run;
};

inline Emulated emulated;
inline unsigned emulated_seed;          // 0: threads take turns; else warps, in an order drawn from it, each as far as it comes
inline Index threadIdx, blockIdx, blockDim, gridDim;
alignas(16) inline float shared[EMULATED_SHARED / sizeof(float)];

inline void emulated_enter()
{
	threadIdx = {emulated.current % emulated.count, 0, 0};
	if (emulated.together > 1)
		blockIdx = {emulated.current / emulated.count, 0, 0};
}

inline void emulated_yield()
{
	unsigned own = emulated.current;
	emulated_switch(&emulated.threads[own], &emulated.scheduler);
	emulated_enter();
}

// Returns when `wanted` threads have come here.
inline void emulated_meet(EmulatedMeeting &meeting, unsigned wanted)
{
	unsigned round = meeting.round;
	emulated.moved = true;
	if (++meeting.arrived == wanted) {
		meeting.arrived = 0;
		meeting.round++;
	}
	while (meeting.round == round)
		emulated_yield();
	emulated.moved = true;
}

inline void __syncthreads() { emulated_meet(emulated.blocks[emulated.current / emulated.count], emulated.count); }

inline void __syncwarp(unsigned = ~0u)
{
	unsigned warp = emulated.current / EMULATED_WARP, left = (unsigned)emulated.threads.size() - warp * EMULATED_WARP;
	emulated_meet(emulated.warps[warp], left < EMULATED_WARP ? left : EMULATED_WARP);
}

// What thread `from` offers, while this one offers value.
template <class T> T emulated_exchange(T value, unsigned from)
{
	T other;
	static_assert(sizeof value <= sizeof(uint64_t), "a lane offers 8 bytes at most");
	memcpy(&emulated.lanes[emulated.current], &value, sizeof value);
	__syncwarp();
	memcpy(&other, &emulated.lanes[from], sizeof other);
	__syncwarp();
	return other;
}

template <class T> T __shfl_xor_sync(unsigned, T value, int mask) { return emulated_exchange(value, emulated.current ^ (unsigned)mask); }
template <class T> T __shfl_up_sync(unsigned, T value, unsigned by)
{
	unsigned own = emulated.current;
	return emulated_exchange(value, own % EMULATED_WARP < by ? own : own - by);
}

// The lanes that offer the same value, as bits.
template <class T> unsigned __match_any_sync(unsigned, T value)
{
	unsigned first = emulated.current / EMULATED_WARP * EMULATED_WARP, same = 0;
	memcpy(&emulated.lanes[emulated.current], &value, sizeof value);
	__syncwarp();
	for (unsigned lane = 0; lane < EMULATED_WARP && first + lane < emulated.threads.size(); lane++)
		same |= (unsigned)!memcmp(&emulated.lanes[first + lane], &value, sizeof value) << lane;
	__syncwarp();
	return same;
}

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __expf(float x) { return expf(x); }
template <class T> T atomicAdd(T *to, T value)
{
	T before = *to;
	*to += value;
	return before;
}

inline void emulated_thread()
{
	emulated_enter();
	(*emulated.run)();
	emulated.done[emulated.current] = emulated.moved = true;
	emulated_yield(); // for ever
}

// Runs threads [first, end) until each waits. Whether any is not done; *moved is set where one has come further.
inline bool emulated_run(unsigned first, unsigned end, bool *moved)
{
	bool any = false;
	emulated.moved = false;
	for (unsigned t = first; t < end; t++)
		if (!emulated.done[t]) {
			any = true;
			emulated.current = t;
			emulated_switch(&emulated.scheduler, &emulated.threads[t]);
		}
	*moved |= emulated.moved;
	return any;
}

// One warp after another.
inline bool emulated_warps(bool *moved)
{
	const unsigned threads = (unsigned)emulated.threads.size();
	std::vector<unsigned> warps((threads + EMULATED_WARP - 1) / EMULATED_WARP);
	bool any = false;
	for (unsigned i = 0; i < warps.size(); i++) {
		emulated_seed = emulated_seed * 1664525 + 1013904223;
		unsigned other = (emulated_seed >> 8) % (i + 1);
		warps[i] = warps[other];
		warps[other] = i;
	}
	for (unsigned warp : warps) {
		unsigned end = (warp + 1) * EMULATED_WARP;
		bool further;
		do {
			further = false;
			any |= emulated_run(warp * EMULATED_WARP, end < threads ? end : threads, &further);
			*moved |= further;
		} while (further);
	}
	return any;
}

// So many blocks at once, each of so many threads, a multiple of those of a warp where there are several.
inline void emulate_blocks(unsigned together, unsigned count, const std::function<void()> &run)
{
	const unsigned threads = together * count;
	emulated.threads.resize(threads);
	emulated.stacks.resize((size_t)threads * EMULATED_STACK);
	emulated.done.assign(threads, false);
	emulated.lanes.assign(threads, 0);
	emulated.blocks.assign(together, EmulatedMeeting{0, 0});
	emulated.warps.assign(threads / EMULATED_WARP + 1, EmulatedMeeting{0, 0});
	emulated.count = count;
	emulated.together = together;
	emulated.run = &run;
	for (unsigned t = 0; t < threads; t++)
		emulated_begin(emulated.threads[t], &emulated.stacks[(size_t)t * EMULATED_STACK], EMULATED_STACK, emulated_thread);
	for (bool any = true; any;) {
		bool moved = false;
		any = emulated_seed ? emulated_warps(&moved) : emulated_run(0, threads, &moved);
		if (any && !moved) {
			fprintf(stderr, "a barrier or an exchange waits for threads that do not come, in block %u of %u threads\n", blockIdx.x, threads);
			exit(1);
		}
	}
}

inline void emulate(dim3 grid, dim3 block, const std::function<void()> &run)
{
	gridDim = grid;
	blockDim = block;
	for (unsigned y = 0; y < grid.y; y++)
		for (unsigned x = 0; x < grid.x; x++) {
			blockIdx = {x, y, 0};
			memset(shared, 0xff, sizeof shared); // NaN
			emulate_blocks(1, block.x, run);
		}
}

// The same at once. Static shared memory is one for all.
inline void emulate_together(dim3 grid, dim3 block, const std::function<void()> &run)
{
	gridDim = grid;
	blockDim = block;
	blockIdx = {0, 0, 0};
	emulate_blocks(grid.x, block.x, run);
}

#endif
