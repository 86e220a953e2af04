// mp_rows.h: how kernels walk over rows that several passes read, on both machines; part of mp_kernel.h, which includes it.
//
// A block takes a row. The first pass reads device memory; the passes behind it, which need sums of the whole
// row, read it again from cache: fewer live values than keeping it in registers, and right for rows of any length.
//
//   strips   What is done with the elements from column c on is a lambda (strip, c, …): strip converts to their number, for
//            mp_load<strip> and mp_store<strip>. On the GPU that is 16 bytes where addresses allow it (mp_wide), else one element;
//            on the host one element, in loops that vectorise.
//   panels   What a thread keeps for each of its columns while it goes down the rows: those of MP_PANELS strips on the GPU,
//            thousands on the host, whose one thread has all columns.
//
// Orders of addition follow from the extents and the block.
#ifndef MP_ROWS_H
#define MP_ROWS_H

// A number as a type, so that lambdas can take it as a constant.
template <int n> struct mp_width {
	__device__ constexpr operator int() const { return n; }
};

#ifdef __CUDACC__

enum { MP_PANELS = 2 }; // strips of which a thread keeps something

#define MP_ROW_BLOCKS __launch_bounds__(512) // before a kernel with blocks of mp_strip_threads that needs many registers
#define MP_STRIP(real) MP_WIDE(real)
#define MP_PANEL(real) MP_WIDE(real)
#define MP_NARROW_PANEL 1

// Threads for a row. Two strips for each, and more of very wide rows: blocks twice as large wait longer for their own threads, and
// half as large ones read too little at once (measured on an H100).
static inline unsigned mp_strip_threads(long cols, int width)
{
	const long strips = (cols + width - 1) / width, threads = (strips + 63) / 64 * 32;
	return threads < 32 ? 32 : threads < 512 ? (unsigned)threads : 512;
}

// Each value becomes the sum over the block's threads, the same in all of them.
template <class full, int n> MP_DEVICE void mp_block_sums(full (&value)[n])
{
	__shared__ alignas(16) full of_warp[32][n];
#pragma unroll
	for (int k = 0; k < n; k++)
		for (int offset = 16; offset; offset >>= 1)
			value[k] += __shfl_xor_sync(~0u, value[k], offset);
	if (blockDim.x == 32)
		return;
	if (threadIdx.x % 32 == 0)
		for (int k = 0; k < n; k++)
			of_warp[threadIdx.x / 32][k] = value[k];
	__syncthreads();
#pragma unroll
	for (int k = 0; k < n; k++)
		value[k] = of_warp[0][k];
	for (unsigned warp = 1; warp < blockDim.x / 32; warp++)
#pragma unroll
		for (int k = 0; k < n; k++)
			value[k] += of_warp[warp][k];
	__syncthreads(); // of_warp is free for the next call
}

// each(strip, c) for every strip of a row.
template <int width, class Each> MP_DEVICE void mp_each_strip(long cols, Each each)
{
	for (long c = (long)threadIdx.x * width; c < cols; c += (long)blockDim.x * width)
		each(mp_width<width>(), c);
}

// each(k, c, elements) for every strip of a thread's columns from `panel` on: at most MP_PANELS, a block's width apart.
template <int width, class Each> MP_DEVICE void mp_each_panel(long panel, long cols, Each each)
{
#pragma unroll
	for (int k = 0; k < MP_PANELS; k++) {
		const long c = panel + ((long)k * blockDim.x + threadIdx.x) * width;
		if (c < cols)
			each(k, c, width);
	}
}

// sum[k] = what add(strip, c, sum) adds to it over every strip of a row, by the whole block.
template <int width, class full, int n, class Add> MP_DEVICE void mp_sum_strips(long cols, full (&sum)[n], Add add)
{
	for (int k = 0; k < n; k++)
		sum[k] = 0;
	mp_each_strip<width>(cols, [&](auto strip, long c) { add(strip, c, sum); });
	mp_block_sums(sum);
}

#else

enum { MP_PANELS = 1 };

#define MP_ROW_BLOCKS
#define MP_STRIP(real) 1
#define MP_PANEL(real) 4096
#define MP_NARROW_PANEL 4096

static inline unsigned mp_strip_threads(long, int) { return 1; }

template <int width, class Each> MP_DEVICE void mp_each_strip(long cols, Each each)
{
	for (long c = 0; c < cols; c++)
		each(mp_width<1>(), c);
}

template <int width, class Each> MP_DEVICE void mp_each_panel(long panel, long cols, Each each)
{
	each(0, panel, mp_strip_width<width>(cols - panel));
}

template <int width, class full, int n, class Add> MP_DEVICE void mp_sum_strips(long cols, full (&sum)[n], Add add)
{
	full part[n][MP_LANES] = {};
	auto add_lanes = [&](long c, int lanes) {
		for (int lane = 0; lane < lanes; lane++) {
			full own[n] = {};
			add(mp_width<1>(), c + lane, own);
			for (int k = 0; k < n; k++)
				part[k][lane] += own[k];
		}
	};
	long c = 0;
	for (; c + MP_LANES <= cols; c += MP_LANES)
		add_lanes(c, MP_LANES);
	add_lanes(c, (int)(cols - c));
	for (int k = 0; k < n; k++) {
		for (int lanes = MP_LANES / 2; lanes; lanes /= 2)
			for (int lane = 0; lane < lanes; lane++)
				part[k][lane] += part[k][lane + lanes];
		sum[k] = part[k][0];
	}
}

#endif
#endif
