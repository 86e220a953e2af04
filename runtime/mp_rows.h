// mp_rows.h: how kernels walk over rows, on both machines; part of mp_kernel.h, which includes it.
//
//   strips   What is done with the elements from column c on is a lambda (strip, c, …): strip converts to their number, for
//            mp_load<strip> and mp_store<strip>. On the GPU that is 16 bytes where addresses allow it (mp_wide), else one element;
//            on the host one element, in loops that vectorise.
//   teams    Threads that share a row and have it in registers: mp_teams.h.
//   spans    Rows whose number of elements is odd begin anywhere: mp_sum_exp_row and mp_change_row take the elements before the first
//            strip, and those behind the last, one by one.
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

#define MP_ROW_BLOCKS __launch_bounds__(512) // before a kernel with blocks of up to 512 threads that needs many registers
#define MP_STRIP(real) MP_WIDE(real)
#define MP_PANEL(real) MP_WIDE(real)
#define MP_NARROW_PANEL 1

// each(strip, c) for every strip of a row.
template <int width, class Each> MP_DEVICE void mp_each_strip(long cols, Each each)
{
	for (long c = (long)threadIdx.x * width; c < cols; c += (long)blockDim.x * width)
		each(mp_width<width>(), c);
}

// Threads for a row of n elements that mp_sum_exp_row or mp_change_row walks over: four strips for each, and more of long rows.
template <class real> static inline unsigned mp_span_threads(long n, unsigned most)
{
	unsigned threads = 32;
	while (threads < most && threads * 4L * MP_WIDE(real) < n)
		threads *= 2;
	return threads;
}

// Blocks that take a row each and read it twice: so few that rows of 100 KB are still in the cache of an H100.
static inline unsigned mp_cached_blocks(long rows) { return rows < 2 * 132 ? mp_row_blocks(rows) : 2 * 132; }

// The elements before the first strip.
template <class real> MP_DEVICE long mp_span_head(const real *from, long n)
{
	const long head = (long)((0 - (size_t)from) % 16 / sizeof(real));
	return head < n ? head : n;
}

// As mp_sum_exp_over of from[0] to from[n - 1]. A thread reads four strips before it looks at the first.
template <class full, class real> MP_DEVICE full mp_sum_exp_row(const real *from, long n, full *largest)
{
	enum { width = MP_WIDE(real), strips = 4 };
	const long head = mp_span_head(from, n), body = (n - head) / width * width, stride = (long)blockDim.x * width;
	full top = -(full)INFINITY, sum = 0;
	for (long i = threadIdx.x; i < n - body; i += blockDim.x) { // fewer than 2 * width
		const full value = from[i < head ? i : i + body], before = top;
		top = top < value ? value : top;
		const full base = top == -(full)INFINITY ? 0 : top; // -infinity minus itself would be a NaN
		sum = sum * mp_exp_below(before - base) + mp_exp_below(value - base);
	}
	for (long c = head + threadIdx.x * (long)width; c < head + body; c += strips * stride) {
		mp_strip<width, real> value[strips];
		const full before = top;
#pragma unroll
		for (int k = 0; k < strips; k++)
			if (c + k * stride < head + body)
				value[k] = mp_load<width>(from + c + k * stride);
#pragma unroll
		for (int k = 0; k < strips; k++)
			if (c + k * stride < head + body)
#pragma unroll
				for (int e = 0; e < width; e++)
					top = top < (full)value[k][e] ? (full)value[k][e] : top;
		const full base = top == -(full)INFINITY ? 0 : top;
		sum *= mp_exp_below(before - base);
#pragma unroll
		for (int k = 0; k < strips; k++)
			if (c + k * stride < head + body)
#pragma unroll
				for (int e = 0; e < width; e++)
					sum += mp_exp_below((full)value[k][e] - base);
	}
	*largest = mp_block_max(top);
	return mp_block_sum(sum * (top == *largest ? 1 : mp_exp_below(top - *largest)));
}

// change(strip, c, value) for the elements of a row from column c on, which become `to`, maybe the same memory. From the end:
// what a pass before read last comes first, from cache.
template <class full, class real, class Change> MP_DEVICE void mp_change_row(real *to, const real *from, long n, Change change)
{
	enum { width = MP_WIDE(real), strips = 4 };
	const long head = ((size_t)to - (size_t)from) % 16 ? n : mp_span_head(from, n), body = (n - head) / width * width;
	const long stride = (long)blockDim.x * width;
	for (long i = threadIdx.x; i < n - body; i += blockDim.x) {
		const long c = i < head ? i : i + body;
		full value[1] = {(full)from[c]};
		change(mp_width<1>(), c, value);
		to[c] = value[0];
	}
	for (long c = head + body - (threadIdx.x + 1L) * width; c >= head; c -= strips * stride) {
		mp_strip<width, real> was[strips];
#pragma unroll
		for (int k = 0; k < strips; k++)
			if (c - k * stride >= head)
				was[k] = mp_load<width>(from + c - k * stride);
#pragma unroll
		for (int k = 0; k < strips; k++)
			if (c - k * stride >= head) {
				full value[width];
				real changed[width];
#pragma unroll
				for (int e = 0; e < width; e++)
					value[e] = was[k][e];
				change(mp_width<width>(), c - k * stride, value);
#pragma unroll
				for (int e = 0; e < width; e++)
					changed[e] = value[e];
				mp_store<width>(to + c - k * stride, changed, width);
			}
	}
}

enum { MP_SUM_THREADS = 256 };

#define MP_SUM_BLOCKS __launch_bounds__(MP_SUM_THREADS) // before a kernel with blocks of mp_sum_threads

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
// done(column, sum) is called by one thread for each column; sums are of the type full. Eight strips of a thread's are read before
// the first is added: few blocks keep the memory busy then.
template <int width, class full, class real, class Done>
MP_DEVICE void mp_column_sums(const real *__restrict__ x, long n, long stride, long columns, int lanes, Done done)
{
	__shared__ alignas(16) full of_warp[MP_SUM_THREADS / 32][32 * width];
	const int group = threadIdx.x / (unsigned)lanes, groups = blockDim.x / (unsigned)lanes, first = threadIdx.x % (unsigned)lanes * width;
	full sum[width] = {};
	for (long row = group; row < n && first < columns; row += 8 * groups) {
		mp_strip<width, real> value[8];
#pragma unroll
		for (int k = 0; k < 8; k++)
			if (row + k * groups < n)
				value[k] = mp_load<width>(x + (row + k * groups) * stride + first);
#pragma unroll
		for (int k = 0; k < 8; k++)
			if (row + k * groups < n)
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

#define MP_ROW_BLOCKS
#define MP_STRIP(real) 1
#define MP_PANEL(real) 4096
#define MP_NARROW_PANEL 4096

template <int width, class Each> MP_DEVICE void mp_each_strip(long cols, Each each)
{
	for (long c = 0; c < cols; c++)
		each(mp_width<1>(), c);
}

template <class real> static inline unsigned mp_span_threads(long, unsigned) { return 1; }
static inline unsigned mp_cached_blocks(long) { return 1; }

template <class full, class real> MP_DEVICE full mp_sum_exp_row(const real *from, long n, full *largest)
{
	return mp_sum_exp_over<full>(n, [=](long c) { return (full)from[c]; }, largest);
}

template <class full, class real, class Change>
MP_DEVICE void mp_change_elements(real *__restrict__ to, const real *__restrict__ from, long n, Change change)
{
	for (long c = 0; c < n; c++) {
		full value[1] = {(full)from[c]};
		change(mp_width<1>(), c, value);
		to[c] = value[0];
	}
}

// One pointer or two that do not overlap: both loops vectorise.
template <class full, class real, class Change> MP_DEVICE void mp_change_row(real *to, const real *from, long n, Change change)
{
	if (to != from) {
		mp_change_elements<full>(to, from, n, change);
		return;
	}
	for (long c = 0; c < n; c++) {
		full value[1] = {(full)to[c]};
		change(mp_width<1>(), c, value);
		to[c] = value[0];
	}
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
