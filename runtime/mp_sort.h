// mp_sort.h: one pass of a stable radix sort, on both machines; part of mp_kernel.h, which includes it.
//
// What is sorted lies in MP_SORT_CHUNKS pieces. First a block for each piece counts its digits; then a block for each places its
// elements behind those of smaller digits and those of the same digit in the pieces before. Equal digits keep their order, so
// that passes from the lowest digit to the highest sort by all. The only atomics are on integers: the result is always the same.
#ifndef MP_SORT_H
#define MP_SORT_H

enum { MP_SORT_BITS = 9, MP_SORT_DIGITS = 1 << MP_SORT_BITS };

#ifdef __CUDACC__

enum { MP_SORT_CHUNKS = 64, MP_SORT_THREADS = 512 };

#define MP_SORT_BLOCKS __launch_bounds__(MP_SORT_THREADS) // before a kernel that sorts: blocks of a multiple of 32 threads

// counts[d] = how many i, from <= i < to, have digit(i) == d, by the whole block.
template <class Digit> MP_DEVICE void mp_count_digits(int *counts, long from, long to, Digit digit)
{
	__shared__ int count[MP_SORT_DIGITS];
	for (int d = threadIdx.x; d < MP_SORT_DIGITS; d += blockDim.x)
		count[d] = 0;
	__syncthreads();
	for (long i = from + threadIdx.x; i < to; i += blockDim.x)
		atomicAdd(&count[digit(i)], 1);
	__syncthreads();
	for (int d = threadIdx.x; d < MP_SORT_DIGITS; d += blockDim.x)
		counts[d] = count[d];
	__syncthreads(); // count is free for the next call
}

// Each value becomes the sum of those before it, by the first warp.
MP_DEVICE void mp_scan_digits(int *value)
{
	enum { each = MP_SORT_DIGITS / 32 };
	int own = 0, before = 0;
	for (int k = 0; k < each; k++)
		own += value[threadIdx.x * each + k];
	for (int offset = 1, sum = own; offset < 32; offset *= 2) {
		const int other = __shfl_up_sync(~0u, sum, offset);
		sum += (int)threadIdx.x >= offset ? other : 0;
		before = sum - own;
	}
	for (int k = 0; k < each; k++) {
		const int count = value[threadIdx.x * each + k];
		value[threadIdx.x * each + k] = before;
		before += count;
	}
}

// place(i, at) for the elements of piece `chunk`, from <= i < to, by the whole block. counts: int[MP_SORT_CHUNKS, MP_SORT_DIGITS]
template <class Digit, class Place>
MP_DEVICE void mp_place_digits(const int *counts, long chunk, long from, long to, Digit digit, Place place)
{
	__shared__ int next[MP_SORT_DIGITS], of_warp[MP_SORT_THREADS / 32][MP_SORT_DIGITS];
	const int warp = threadIdx.x / 32, warps = blockDim.x / 32;
	for (int d = threadIdx.x; d < MP_SORT_DIGITS; d += blockDim.x) {
		int before = 0, all = 0;
#pragma unroll 8
		for (int c = 0; c < MP_SORT_CHUNKS; c++) {
			const int count = counts[c * MP_SORT_DIGITS + d];
			before += c < chunk ? count : 0;
			all += count;
		}
		next[d] = all;
		of_warp[0][d] = before;
	}
	__syncthreads();
	if (warp == 0)
		mp_scan_digits(next);
	__syncthreads();
	for (int d = threadIdx.x; d < MP_SORT_DIGITS; d += blockDim.x)
		next[d] += of_warp[0][d];
	for (long first = from; first < to; first += blockDim.x) {
		const long i = first + threadIdx.x;
		__syncthreads();
		for (int k = threadIdx.x; k < warps * MP_SORT_DIGITS; k += blockDim.x)
			(&of_warp[0][0])[k] = 0;
		__syncthreads();
		const int own = i < to ? digit(i) : -1;
		const unsigned same = __match_any_sync(~0u, own);
		const int rank = __popc(same & ((1u << threadIdx.x % 32) - 1));
		if (own >= 0 && rank == 0)
			of_warp[warp][own] = __popc(same);
		__syncthreads();
		for (int d = threadIdx.x; d < MP_SORT_DIGITS; d += blockDim.x)
			for (int w = 0; w < warps; w++) {
				const int count = of_warp[w][d];
				of_warp[w][d] = next[d];
				next[d] += count;
			}
		__syncthreads();
		if (own >= 0)
			place(i, of_warp[warp][own] + rank);
	}
	__syncthreads(); // all is free for the next call
}

#else

enum { MP_SORT_CHUNKS = 1, MP_SORT_THREADS = 1 };

#define MP_SORT_BLOCKS

template <class Digit> MP_DEVICE void mp_count_digits(int *counts, long from, long to, Digit digit)
{
	for (int d = 0; d < MP_SORT_DIGITS; d++)
		counts[d] = 0;
	for (long i = from; i < to; i++)
		counts[digit(i)]++;
}

template <class Digit, class Place>
MP_DEVICE void mp_place_digits(const int *counts, long chunk, long from, long to, Digit digit, Place place)
{
	int next[MP_SORT_DIGITS], sum = 0;
	for (int d = 0; d < MP_SORT_DIGITS; d++) {
		int before = sum;
		for (int c = 0; c < MP_SORT_CHUNKS; c++) {
			before += c < chunk ? counts[c * MP_SORT_DIGITS + d] : 0;
			sum += counts[c * MP_SORT_DIGITS + d];
		}
		next[d] = before;
	}
	for (long i = from; i < to; i++)
		place(i, next[digit(i)]++);
}

#endif
#endif
