// mp_kernel.h: what lets one kernel source run on two machines. kernels.cu includes it in both builds.
//
// A kernel is C-style CUDA that is right for any block of a multiple of 32 threads and for a block of one thread.
// nvcc (__CUDACC__) launches it on the GPU. The host build calls it as a function, once for each block of its
// grid, with blocks of one thread, from the thread that runs its stream. What differs between the machines is in
// this file and mp_images.h and nowhere else: how a launch is made, how many blocks and threads are worth having, and how the
// threads of a block reduce (shuffles there, lanes of vector registers here).
//
// Ways to walk over data, all in a fixed order for given extents, whatever the grid:
//   elements   for (long i = mp_first(); i < n; i += mp_stride())                      grid mp_blocks(n)
//   matrices   MP_MATRIX, or mp_row_first/mp_row_stride and mp_column_first/mp_column_stride   grid mp_matrix_blocks(...)
//   rows       for (long row = blockIdx.x; row < rows; row += gridDim.x), a block for each row, reduced with
//              mp_sum_over, mp_max_over, mp_sum_exp_over, mp_argmax_over               grid mp_row_blocks(rows)
//   teams      of a warp or a block that hold a row which several passes read (mp_teams.h)
//   spans      rows that begin anywhere, gone over once or twice (mp_spans.h)
//   columns    mp_column_sums: a block for some adjacent columns of some rows (mp_rows.h)
//   images     channels last: mp_images.h
//   tables     of tensors: mp_table.h
//   copies     of several tensors at once: mp_copies.h; sums likewise: mp_addends.h
#ifndef MP_KERNEL_H
#define MP_KERNEL_H

#include "mp_addends.h"
#include "mp_copies.h"
#include "mp_math.h"
#include "mp_philox.h"

#include <cuda_runtime_api.h>
#include <stddef.h>

// ---------------------------------------------------------------------------------------------------------
#ifdef __CUDACC__

extern "C" {
// Ends the program (mp.h).
[[noreturn]] void mp_cuda_failed(cudaError_t error, const char *call, const char *file, int line);
}

#ifndef MP_THREADS
#define MP_THREADS 256 // of a block that walks over elements or matrices
#endif
#define MP_UNROLL _Pragma("unroll 4") // before a loop over elements: loads of four iterations in flight

// A loop over the elements of a matrix. Here a thread stays in its columns, so that what depends on the column alone is
// read once; on the host the inner loop runs along the row, for vector registers.
#define MP_MATRIX(row, rows, column, columns, lanes) \
	for (long column = mp_column_first(lanes); column < (columns); column += mp_column_stride(lanes)) \
		MP_UNROLL \
		for (long row = mp_row_first(lanes); row < (rows); row += mp_row_stride(lanes))

// Before what is done with element e of a strip by the body of an element-wise kernel.
#define MP_EACH_OF_STRIP(e, width) for (int e = 0; e < (width); e++)

// bytes: of dynamic shared memory
#define MP_LAUNCH_SHARED(kernel, grid, block, bytes, stream, ...) \
	do { \
		cudaError_t error_ = (bytes) ? cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes) : cudaSuccess; \
		if (error_ == cudaSuccess) { \
			kernel<<<grid, block, bytes, stream>>>(__VA_ARGS__); \
			error_ = cudaGetLastError(); \
		} \
		if (error_ != cudaSuccess) \
			mp_cuda_failed(error_, #kernel, __FILE__, __LINE__); \
	} while (0)
#define MP_LAUNCH(kernel, grid, block, stream, ...) MP_LAUNCH_SHARED(kernel, grid, block, 0, stream, __VA_ARGS__)

enum { MP_MOST_BLOCKS = 4096 }; // of a grid that strides: four waves of the largest GPUs

static inline unsigned mp_blocks(long n)
{
	long blocks = (n + MP_THREADS - 1) / MP_THREADS;
	return blocks < 1 ? 1 : blocks < MP_MOST_BLOCKS ? blocks : MP_MOST_BLOCKS;
}

static inline unsigned mp_row_blocks(long rows)
{
	return rows < 1 ? 1 : rows < 0x7fffffff ? rows : 0x7fffffff;
}

// Threads for a row of `columns` elements: about eight elements for each thread, while there are that many.
static inline unsigned mp_row_threads(long columns)
{
	unsigned threads = 32;
	while (threads < 1024 && threads * 8 < columns)
		threads *= 2;
	return threads;
}

// How many threads share a row of a matrix: a power of two, so that finding one's place needs no division; about four
// elements for each thread, but no less than a warp where the row has as many, and no more than the largest GPUs run
// at once.
static inline int mp_lanes(long columns)
{
	int lanes = 1;
	while (lanes < columns && (lanes < 32 || lanes * 4L < columns) && lanes < 262144)
		lanes *= 2;
	return lanes;
}

static inline unsigned mp_matrix_blocks(long rows, int lanes)
{
	return rows < 0x7fffffff / lanes ? mp_blocks(rows * lanes) : MP_MOST_BLOCKS;
}

MP_DEVICE long mp_first() { return (long)blockIdx.x * blockDim.x + threadIdx.x; }
MP_DEVICE long mp_stride() { return (long)gridDim.x * blockDim.x; }

// A grid need not be a multiple of lanes: the threads left over get no row.
MP_DEVICE long mp_row_stride(int lanes) { return gridDim.x * blockDim.x / (unsigned)lanes; }
MP_DEVICE long mp_row_first(int lanes)
{
	long row = (blockIdx.x * blockDim.x + threadIdx.x) / (unsigned)lanes;
	return row < mp_row_stride(lanes) ? row : 0x7fffffffffffffff;
}
MP_DEVICE long mp_column_first(int lanes) { return (blockIdx.x * blockDim.x + threadIdx.x) & (lanes - 1); }
MP_DEVICE long mp_column_stride(int lanes) { return lanes; }

// The values of a block's threads combined; every thread gets the result and must take part.
template <class real, class Combine> MP_DEVICE real mp_block_reduce(real value, Combine combine)
{
	__shared__ real of_warp[32];
	for (int offset = 16; offset; offset >>= 1)
		value = combine(value, __shfl_xor_sync(~0u, value, offset));
	if (threadIdx.x % 32 == 0)
		of_warp[threadIdx.x / 32] = value;
	__syncthreads();
	value = of_warp[0];
	for (unsigned warp = 1; warp < blockDim.x / 32; warp++)
		value = combine(value, of_warp[warp]);
	__syncthreads(); // of_warp is free for the next call
	return value;
}

template <class real> MP_DEVICE real mp_block_sum(real value)
{
	return mp_block_reduce(value, [](real a, real b) { return a + b; });
}
template <class real> MP_DEVICE real mp_block_max(real value)
{
	return mp_block_reduce(value, [](real a, real b) { return a < b ? b : a; });
}
MP_DEVICE long mp_block_min(long value)
{
	return mp_block_reduce(value, [](long a, long b) { return a < b ? a : b; });
}

// term(first) + term(first + stride) + … below n. Few blocks may have to keep the memory busy, so eight terms are
// read before the first is added: left to itself, the compiler waits for each.
template <class real, class Term> MP_DEVICE real mp_strided_sum(long first, long stride, long n, Term term)
{
	real sum = 0;
	for (; first < n; first += 8 * stride) {
		real value[8];
#pragma unroll
		for (int k = 0; k < 8; k++)
			value[k] = first + k * stride < n ? (real)term(first + k * stride) : (real)0;
#pragma unroll
		for (int k = 0; k < 8; k++)
			sum += value[k];
	}
	return sum;
}

// sum of term(i) for 0 <= i < n, by the whole block.
template <class real, class Term> MP_DEVICE real mp_sum_over(long n, Term term)
{
	return mp_block_sum(mp_strided_sum<real>(threadIdx.x, blockDim.x, n, term));
}

// The largest term(i), -infinity without terms; a NaN is never the largest.
template <class real, class Term> MP_DEVICE real mp_max_over(long n, Term term)
{
	real largest = -(real)INFINITY;
	MP_UNROLL
	for (long i = threadIdx.x; i < n; i += blockDim.x) {
		real value = term(i);
		largest = largest < value ? value : largest;
	}
	return mp_block_max(largest);
}

// *largest = the largest term(i), and the sum of exp(term(i) - *largest), reading each term once: the sum is rescaled
// when a larger term comes (Milakov and Gimelshein, arXiv:1805.02867), here for four terms at a time.
template <class real, class Term> MP_DEVICE real mp_sum_exp_over(long n, Term term, real *largest)
{
	real top = -(real)INFINITY, sum = 0;
	for (long first = threadIdx.x; first < n; first += 4L * blockDim.x) {
		real value[4], before = top;
#pragma unroll
		for (int k = 0; k < 4; k++) {
			long i = first + (long)k * blockDim.x;
			value[k] = i < n ? term(i) : -(real)INFINITY;
			top = top < value[k] ? value[k] : top;
		}
		// Masked terms are -infinity: they add nothing, and -infinity minus itself would be a NaN.
		sum *= before == top ? 1 : mp_exp(before - top);
#pragma unroll
		for (int k = 0; k < 4; k++)
			sum += value[k] == -(real)INFINITY ? 0 : mp_exp(value[k] - top);
	}
	*largest = mp_block_max(top);
	return mp_block_sum(sum * (top == *largest ? 1 : mp_exp(top - *largest)));
}

// The lowest i with the largest term(i); n where every term is a NaN.
template <class real, class Term> MP_DEVICE long mp_argmax_over(long n, Term term)
{
	real largest = mp_max_over<real>(n, term);
	long lowest = n;
	for (long i = threadIdx.x; i < n && lowest == n; i += blockDim.x)
		lowest = term(i) == largest ? i : n;
	return mp_block_min(lowest);
}

// ---------------------------------------------------------------------------------------------------------
#else

#ifndef __global__
#define __global__
#endif
#ifndef __device__
#define __device__
#endif
#ifndef __grid_constant__
#define __grid_constant__
#endif

#define MP_THREADS 1
#define MP_UNROLL
#define MP_MATRIX(row, rows, column, columns, lanes) \
	for (long row = mp_row_first(lanes); row < (rows); row += mp_row_stride(lanes)) \
		for (long column = mp_column_first(lanes); column < (columns); column += mp_column_stride(lanes))

// Strips have one element here. A loop over it would keep the loop around it, with a condition inside, from vectorising.
#define MP_EACH_OF_STRIP(e, width) if (const int e = 0; true)

struct mp_index { unsigned x, y, z; };
static thread_local mp_index blockIdx, gridDim;
static const mp_index threadIdx = {0, 0, 0}, blockDim = {1, 1, 1};

// Runs run(closure) after what was enqueued on stream before it; the closure is copied (runtime/host/mp_host.h).
extern "C" void mp_host_enqueue(cudaStream_t stream, const char *name, void (*run)(void *), const void *closure,
                                size_t bytes);

// The arguments of a launch, trivially copyable as std::tuple is not.
template <class... Types> struct mp_arguments {};
template <class First, class... Rest> struct mp_arguments<First, Rest...> {
	First first;
	mp_arguments<Rest...> rest;
};
template <class T> struct mp_same { typedef T type; };

static inline mp_arguments<> mp_pack() { return {}; }
template <class First, class... Rest> static inline mp_arguments<First, Rest...> mp_pack(First first, Rest... rest)
{
	return {first, mp_pack(rest...)};
}

template <auto kernel, class... Done> static inline void mp_call(const mp_arguments<> &, Done... done)
{
	kernel(done...);
}
template <auto kernel, class First, class... Rest, class... Done>
static inline void mp_call(const mp_arguments<First, Rest...> &left, Done... done)
{
	mp_call<kernel>(left.rest, done..., left.first);
}

template <class... Parameters> struct mp_launch {
	unsigned grid;
	mp_arguments<Parameters...> arguments;
};

template <auto kernel, class... Parameters> static void mp_run_blocks(void *closure)
{
	const mp_launch<Parameters...> *launch = (const mp_launch<Parameters...> *)closure;
	gridDim = {launch->grid, 1, 1};
	for (unsigned block = 0; block < launch->grid; block++) {
		blockIdx = {block, 0, 0};
		mp_call<kernel>(launch->arguments);
	}
}

// The parameter types are the kernel's, so that arguments convert as in a call.
template <auto kernel, class... Parameters>
static inline void mp_host_launch(void (*)(Parameters...), const char *name, unsigned grid, cudaStream_t stream,
                                  typename mp_same<Parameters>::type... arguments)
{
	mp_launch<Parameters...> launch = {grid, mp_pack(arguments...)};
	static_assert(__is_trivially_copyable(mp_launch<Parameters...>), "the arguments are copied as bytes");
	mp_host_enqueue(stream, name, mp_run_blocks<kernel, Parameters...>, &launch, sizeof launch);
}

#define MP_LAUNCH(kernel, grid, block, stream, ...) \
	mp_host_launch<kernel>(kernel, #kernel, ((void)(block), (grid)), stream, __VA_ARGS__)
#define MP_LAUNCH_SHARED(kernel, grid, block, bytes, stream, ...) ((void)(bytes), MP_LAUNCH(kernel, grid, block, stream, __VA_ARGS__))

static inline unsigned mp_blocks(long) { return 1; }
static inline unsigned mp_row_blocks(long) { return 1; }
static inline unsigned mp_row_threads(long) { return 1; }
static inline int mp_lanes(long) { return 1; }
static inline unsigned mp_matrix_blocks(long, int) { return 1; }

// A stride that the compiler knows: loops over elements vectorise, on grids of one block.
MP_DEVICE long mp_first() { return 0; }
MP_DEVICE long mp_stride() { return 1; }
MP_DEVICE long mp_row_first(int) { return 0; }
MP_DEVICE long mp_row_stride(int) { return 1; }
MP_DEVICE long mp_column_first(int) { return 0; }
MP_DEVICE long mp_column_stride(int) { return 1; }

template <class real> MP_DEVICE real mp_block_sum(real value) { return value; }
template <class real> MP_DEVICE real mp_block_max(real value) { return value; }
MP_DEVICE long mp_block_min(long value) { return value; }

// Partial results of a reduction, one for each i % MP_LANES: a number that fills vector registers of any
// processor, so that the order of the additions does not depend on it.
enum { MP_LANES = 32 };

template <class real, class Term> MP_DEVICE real mp_sum_over(long n, Term term)
{
	real part[MP_LANES] = {};
	long i = 0;
	for (; i + MP_LANES <= n; i += MP_LANES)
		for (int lane = 0; lane < MP_LANES; lane++)
			part[lane] += term(i + lane);
	for (int lane = 0; lane < n - i; lane++)
		part[lane] += term(i + lane);
	for (int width = MP_LANES / 2; width; width /= 2)
		for (int lane = 0; lane < width; lane++)
			part[lane] += part[lane + width];
	return part[0];
}

template <class real, class Term> MP_DEVICE real mp_max_over(long n, Term term)
{
	real part[MP_LANES];
	for (int lane = 0; lane < MP_LANES; lane++)
		part[lane] = -(real)INFINITY;
	long i = 0;
	for (; i + MP_LANES <= n; i += MP_LANES)
		for (int lane = 0; lane < MP_LANES; lane++) {
			real value = term(i + lane);
			part[lane] = part[lane] < value ? value : part[lane];
		}
	for (; i < n; i++)
		part[0] = part[0] < term(i) ? term(i) : part[0];
	for (int lane = 1; lane < MP_LANES; lane++)
		part[0] = part[0] < part[lane] ? part[lane] : part[0];
	return part[0];
}

// Two passes: maxima vectorise, and rescaling would cost more than reading the row again from cache.
template <class real, class Term> MP_DEVICE real mp_sum_exp_over(long n, Term term, real *largest)
{
	const real top = *largest = mp_max_over<real>(n, term);
	return mp_sum_over<real>(n, [=](long i) { return mp_exp(term(i) - top); });
}

template <class real, class Term> MP_DEVICE long mp_argmax_over(long n, Term term)
{
	real largest = mp_max_over<real>(n, term);
	long lowest = 0;
	while (lowest < n && !(term(lowest) == largest))
		lowest++;
	return lowest;
}

#endif

#include "mp_images.h"
#include "mp_rows.h"
#include "mp_spans.h"
#include "mp_teams.h"
#include "mp_sort.h"
#include "mp_table.h"

#endif
