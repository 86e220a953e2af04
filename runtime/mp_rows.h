// mp_rows.h: how kernels walk over rows, on both machines; part of mp_kernel.h, which includes it.
//
//   strips   What is done with the elements from column c on is a lambda (strip, c, …): strip converts to their number, for
//            mp_load<strip> and mp_store<strip>. On the GPU that is 16 bytes where addresses allow it (mp_wide), else one element;
//            on the host one element, in loops that vectorise.
//   teams    Threads that share a row and have it in registers: mp_teams.h.
//   spans    Rows that begin anywhere: mp_spans.h.
//   columns  mp_column_sums: a block adds up some adjacent columns of some rows, each a strip of a thread's; mp_sum_lanes threads are
//            side by side.
//
// Orders of addition follow from the extents and the block.
#ifndef MP_ROWS_H
#define MP_ROWS_H

// A number as a type, so that lambdas can take it as a constant.
template <int n> struct mp_width {
	__device__ constexpr operator int() const { return n; }
};

#ifdef __CUDACC__

#define MP_STRIP(real) MP_WIDE(real)
#define MP_PANEL(real) MP_WIDE(real)
#define MP_NARROW_PANEL 1

// each(strip, c) for every strip of a row.
template <int width, class Each> MP_DEVICE void mp_each_strip(long cols, Each each)
{
	for (long c = (long)threadIdx.x * width; c < cols; c += (long)blockDim.x * width)
		each(mp_width<width>(), c);
}

enum { MP_SUM_THREADS = 256 };

#define MP_SUM_BLOCKS __launch_bounds__(MP_SUM_THREADS, 4) // before a kernel with blocks of mp_sum_threads

// How many threads of mp_column_sums are side by side where a row has so many strips: a warp, which reads a whole page of memory
// sooner, or fewer where that gives more multiprocessors something to do.
static inline int mp_sum_lanes(long strips, long sums)
{
	int lanes = 32;
	while (lanes > 2 && (sums * ((strips + lanes - 1) / lanes) < 132 || lanes / 2 >= strips))
		lanes /= 2;
	return lanes;
}

// Threads for mp_column_sums over n rows: each has four rows or more.
static inline unsigned mp_sum_threads(long n, int lanes)
{
	unsigned threads = 32;
	while (threads < MP_SUM_THREADS && threads * 4 < n * lanes)
		threads *= 2;
	return threads;
}

// Sums down `columns` adjacent columns, at most lanes * width, of n rows that are `stride` elements apart, by the whole block;
// done(column, sum) is called by one thread for each column; sums are of the type full. A thread reads its next four strips before it
// adds up the last four: few blocks keep the memory busy then.
template <int width, class full, class real, class Done>
MP_DEVICE void mp_column_sums(const real *__restrict__ x, long n, long stride, long columns, int lanes, Done done)
{
	__shared__ alignas(16) full of_warp[MP_SUM_THREADS / 32][32 * width];
	const unsigned group = threadIdx.x / (unsigned)lanes, groups = blockDim.x / (unsigned)lanes, first = threadIdx.x % (unsigned)lanes * width;
	int left = first < columns ? ((unsigned)n - group + groups - 1) / groups : 0; // strips that are not yet added up
	const real *from = x + group * stride + first;
	const long step = groups * stride;
	mp_strip<width, real> value[4], behind[4];
	full sum[width] = {};
	const auto read = [&](int there) {
#pragma unroll
		for (int k = 0; k < 4; k++, from += step)
			if (k < there)
				behind[k] = mp_load<width>(from);
	};
	for (read(left); left > 0; left -= 4) {
#pragma unroll
		for (int k = 0; k < 4; k++)
			value[k] = behind[k];
		read(left - 4);
#pragma unroll
		for (int k = 0; k < 4; k++)
			if (k < left)
#pragma unroll
				for (int e = 0; e < width; e++)
					sum[e] += (full)value[k][e];
	}
	for (int offset = lanes; offset < 32; offset *= 2)
#pragma unroll
		for (int e = 0; e < width; e++)
			sum[e] += __shfl_xor_sync(~0u, sum[e], offset);
	if ((int)threadIdx.x % 32 < lanes)
#pragma unroll
		for (int e = 0; e < width; e++)
			of_warp[threadIdx.x / 32][first + e] = sum[e];
	__syncthreads();
	for (int column = threadIdx.x; column < columns && column < lanes * width; column += blockDim.x) {
		full total = of_warp[0][column];
		for (unsigned warp = 1; warp < blockDim.x / 32; warp++)
			total += of_warp[warp][column];
		done(column, total);
	}
	__syncthreads(); // of_warp is free for the next call
}

#else

#define MP_STRIP(real) 1
#define MP_PANEL(real) 4096
#define MP_NARROW_PANEL 4096

template <int width, class Each> MP_DEVICE void mp_each_strip(long cols, Each each)
{
	for (long c = 0; c < cols; c++)
		each(mp_width<1>(), c);
}

#define MP_SUM_BLOCKS

static inline int mp_sum_lanes(long, long) { return 256; }
static inline unsigned mp_sum_threads(long, int) { return 1; }

// Rows are added in groups of 64, then the groups: rounding errors grow with n / 64 + 64 instead of n.
template <int width, class full, class real, class Done>
MP_DEVICE void mp_column_sums(const real *__restrict__ x, long n, long stride, long columns, int, Done done)
{
	const int tile = columns < 256 ? (int)columns : 256;
	full sum[256] = {};
	for (long first = 0; first < n; first += 64) {
		full part[256] = {};
		for (long row = first; row < n && row < first + 64; row++)
			for (int column = 0; column < tile; column++)
				part[column] += x[row * stride + column];
		for (int column = 0; column < tile; column++)
			sum[column] += part[column];
	}
	for (int column = 0; column < tile; column++)
		done(column, sum[column]);
}

#endif
#endif
