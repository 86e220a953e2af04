// mp_images.h: how kernels walk over channels-last images, real[n, h, w, channels], on both machines; part of
// mp_kernel.h, which includes it.
//
//   strips     A thread takes some adjacent channels of a pixel at once: 16 bytes on the GPU where addresses allow it,
//              else one channel; up to 256 channels on the host, whose vector registers want long inner loops.
//   pixels     a block for each row of pixels, so that what depends on the row is computed once
//              for (long row = blockIdx.x; row < rows; row += gridDim.x)
//                      for (int column = mp_pixel_first(lanes); column < columns; column += mp_pixel_stride(lanes))
//                              for (long c = mp_strip_first<width>(lanes); c < channels; c += mp_strip_stride<width>(lanes))
//              grid mp_row_blocks(rows), block mp_pixel_threads(columns, lanes)
//   sums       mp_channel_sums: a block for up to MP_CHANNELS channels of many pixels
//   matrices   mp_transpose_tile: a block for each MP_SQUARE by MP_SQUARE elements
//
// Orders of addition follow from the extents alone.
#ifndef MP_IMAGES_H
#define MP_IMAGES_H

// ---------------------------------------------------------------------------------------------------------
// Windows that slide over one dim of an image: position i has taps at i * stride - padding + k * dilation, k < size.

struct mp_window {
	int size, stride, padding, dilation;
	int extent, count;      // pixels of the image, positions of the window
};

struct mp_range { int first, end; };

// The taps of a position that lie inside the image.
MP_DEVICE mp_range mp_taps(const mp_window &window, int position)
{
	int start = position * window.stride - window.padding, left = window.extent - start;
	int first = start < 0 ? (window.dilation - 1 - start) / window.dilation : 0;
	int end = left <= 0 ? 0 : (left + window.dilation - 1) / window.dilation;
	return {first, end < window.size ? end : window.size};
}

// The positions whose windows reach from one side of a pixel to the other; with a dilation they need not hold it.
MP_DEVICE mp_range mp_positions(const mp_window &window, int pixel)
{
	int last = pixel + window.padding, first = last - (window.size - 1) * window.dilation;
	int end = last / window.stride + 1;
	return {first <= 0 ? 0 : (first + window.stride - 1) / window.stride, end < window.count ? end : window.count};
}

// ---------------------------------------------------------------------------------------------------------

template <class real> struct mp_pair { real a, b; };

template <class real> MP_DEVICE real mp_median(real a, real b, real c)
{
	const real low = a < b ? a : b, high = a < b ? b : a;
	return c < low ? low : c < high ? c : high;
}

static inline size_t mp_address_bits() { return 0; }
template <class... Rest> static inline size_t mp_address_bits(const void *first, Rest... rest)
{
	return (size_t)first | mp_address_bits(rest...);
}

#ifdef __CUDACC__

enum { MP_CHANNELS = 32, MP_SQUARE = 32, MP_NARROW_MATRIX = 8 };

// Adjacent channels that a thread takes: the narrow strip is always right, the wide one where mp_wide says so.
#define MP_NARROW 1
#define MP_WIDE(real) (16 / (int)sizeof(real))

// Whether strips of 16 bytes are: the pixels of every tensor at `addresses` start at a multiple of 16 bytes.
template <class real, class... Addresses> static inline bool mp_wide(long channels, Addresses... addresses)
{
	return channels % MP_WIDE(real) == 0 && mp_address_bits(addresses...) % 16 == 0;
}

// Adjacent elements that are loaded and stored at once.
template <int width, class T> struct alignas(width * sizeof(T) < 16 ? width * sizeof(T) : 16) mp_strip {
	T at[width];
	__device__ __forceinline__ T operator[](int k) const { return at[k]; }
};

// Of two in a register: apart, they would be moved before they are needed, which waits for the load.
template <int width> struct alignas(width * 2 < 16 ? width * 2 : 16) mp_strip<width, mp_bf16> {
	unsigned pair[width / 2];
	__device__ __forceinline__ mp_bf16 operator[](int k) const
	{
		mp_bf16 value;
		value.bits = (uint16_t)(pair[k / 2] >> k % 2 * 16);
		return value;
	}
};
template <> struct mp_strip<1, mp_bf16> {
	mp_bf16 at[1];
	__device__ __forceinline__ mp_bf16 operator[](int) const { return at[0]; }
};

// The strip at `from`: value[k] is its k-th element. On the host, values may be no more than the address.
template <int width, class T> MP_DEVICE mp_strip<width, T> mp_load(const T *from)
{
	return *(const mp_strip<width, T> *)from;
}

// Stores a strip, of which the first `count` elements are there. Written as assembler because the compiler splits stores of
// structs and of CUDA's own vector types.
template <int width, class T> MP_DEVICE void mp_store(T *to, const T (&value)[width], int)
{
#ifdef __CUDA_ARCH__
	unsigned word[(sizeof value + 3) / 4];
	memcpy(word, value, sizeof value);
	if (sizeof value % 16 == 0)
#pragma unroll
		for (int k = 0; k + 3 < (int)(sizeof word / 4); k += 4)
			asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"((char *)to + 4 * k), "r"(word[k]), "r"(word[k + 1]),
			             "r"(word[k + 2]), "r"(word[k + 3]) : "memory");
	else if (sizeof value == 8)
		asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(to), "r"(word[0]), "r"(word[sizeof word / 4 - 1]) : "memory");
	else
#endif
		for (int k = 0; k < width; k++)
			to[k] = value[k];
}

// The number of channels in a strip that starts `left` channels before the end.
template <int width> MP_DEVICE int mp_strip_width(long) { return width; }

// How many threads share a pixel: up to 256, so that rounds of strips are about equal.
template <class real> static inline int mp_pixel_lanes(long channels, bool wide)
{
	long strips = wide ? channels / MP_WIDE(real) : channels, rounds = (strips + 255) / 256;
	return strips < 1 ? 1 : (int)((strips + rounds - 1) / rounds);
}

static inline unsigned mp_pixel_threads(long columns, int lanes)
{
	long pixels = 256 / lanes < columns ? 256 / lanes : columns;
	return (unsigned)(lanes * (pixels < 1 ? 1 : pixels) + 31) / 32 * 32;
}

// A block need not be a multiple of lanes: the threads left over get no pixel. Nor need it have as many threads.
MP_DEVICE unsigned mp_block_lanes(int lanes) { return lanes < (int)blockDim.x ? lanes : blockDim.x; }
MP_DEVICE int mp_pixel_stride(int lanes) { return blockDim.x / mp_block_lanes(lanes); }
MP_DEVICE int mp_pixel_first(int lanes)
{
	int pixel = threadIdx.x / mp_block_lanes(lanes);
	return pixel < mp_pixel_stride(lanes) ? pixel : 0x7fffffff;
}
template <int width> MP_DEVICE long mp_strip_first(int lanes) { return threadIdx.x % mp_block_lanes(lanes) * width; }
template <int width> MP_DEVICE long mp_strip_stride(int lanes) { return mp_block_lanes(lanes) * width; }

// Threads for mp_channel_sums over n rows when `blocks` of them run.
static inline unsigned mp_channel_threads(long n, long channels, long blocks)
{
	unsigned threads = mp_row_threads(n * (channels < MP_CHANNELS ? channels : MP_CHANNELS));
	return blocks > 500 && threads > 256 ? 256 : threads;
}

// Adds term(0) to term(7). They are read before the first is added, as in mp_strided_sum; a term that asks whether it is
// to be read would be waited for.
template <class real, class Term> MP_DEVICE void mp_add_terms(mp_pair<real> *sum, Term term)
{
	mp_pair<real> add[8];
#pragma unroll
	for (int k = 0; k < 8; k++)
		add[k] = term(k);
#pragma unroll
	for (int k = 0; k < 8; k++) {
		sum->a += add[k].a;
		sum->b += add[k].b;
	}
}

// Two sums over `rows` for each of `width` <= MP_CHANNELS adjacent channels, by the whole block: constant(c) is computed
// once for channel c; term(row, c, constant) has what the row adds to the sums; done(c, constant, sums) is called by one
// thread for each channel. adjacent: no other channels lie between the rows.
// Adjacent threads read adjacent channels, and the next threads the next row; then the threads of a channel are added in
// pairs.
template <class real, class Constant, class Term, class Done>
MP_DEVICE void mp_channel_sums(long rows, int width, bool, Constant constant, Term term, Done done)
{
	__shared__ mp_pair<real> of_thread[512];
	const int channel = threadIdx.x % width, slot = threadIdx.x / width, slots = blockDim.x / width;
	const auto value = constant(channel);
	mp_pair<real> sum = {0, 0};
	long row = slot < slots ? slot : rows;
	for (; row + 7L * slots < rows; row += 8L * slots)
		mp_add_terms(&sum, [=](int k) { return term(row + (long)k * slots, channel, value); });
	if (row < rows)
		mp_add_terms(&sum, [=](int k) {
			const bool there = row + (long)k * slots < rows;
			const mp_pair<real> add = term(there ? row + (long)k * slots : row, channel, value);
			return mp_pair<real>{there ? add.a : 0, there ? add.b : 0};
		});
	for (int left = slots; left > 1;) {
		int kept = (left + 1) / 2;
		if (slot >= kept && slot < left)
			of_thread[(slot - kept) * width + channel] = sum;
		__syncthreads();
		if (slot + kept < left) {
			sum.a += of_thread[slot * width + channel].a;
			sum.b += of_thread[slot * width + channel].b;
		}
		__syncthreads();
		left = kept;
	}
	if (slot == 0)
		done(channel, value, sum);
}

// y: real[columns, rows] from x: real[rows, columns], the part with x's rows and columns from (row, column) on, through
// shared memory: adjacent threads read adjacent elements and write adjacent elements.
template <class real>
MP_DEVICE void mp_transpose_tile(real *__restrict__ y, const real *__restrict__ x, long rows, long columns, long row,
                                 long column)
{
	__shared__ real tile[MP_SQUARE][MP_SQUARE + 1]; // an odd stride: neither direction meets a bank twice
	const int lane = threadIdx.x % MP_SQUARE, first = threadIdx.x / MP_SQUARE, step = blockDim.x / MP_SQUARE;
	// Four loads before the first store: beyond the matrix they repeat its edge, because a condition would be waited for.
	const long from = column + lane < columns ? column + lane : columns - 1;
	for (int r = first; r < MP_SQUARE; r += 4 * step) {
		real value[4];
#pragma unroll
		for (int k = 0; k < 4; k++)
			value[k] = x[(row + r + k * step < rows ? row + r + k * step : rows - 1) * columns + from];
#pragma unroll
		for (int k = 0; k < 4; k++)
			if (r + k * step < MP_SQUARE)
				tile[r + k * step][lane] = value[k];
	}
	__syncthreads();
	MP_UNROLL
	for (int c = first; c < MP_SQUARE; c += step)
		if (column + c < columns && row + lane < rows)
			y[(column + c) * rows + row + lane] = tile[lane][c];
	__syncthreads(); // tile is free for the next call
}

#else

enum { MP_CHANNELS = 256, MP_SQUARE = 32, MP_NARROW_MATRIX = 0 };

#define MP_NARROW 256
#define MP_WIDE(real) MP_NARROW

template <class real, class... Addresses> static inline bool mp_wide(long, Addresses...) { return false; }
template <int width, class T> MP_DEVICE const T *mp_load(const T *from) { return from; }
template <int width, class T> MP_DEVICE void mp_store(T *__restrict__ to, const T (&value)[width], int count)
{
	for (int k = 0; k < count; k++)
		to[k] = value[k];
}
template <int width> MP_DEVICE int mp_strip_width(long left) { return left < width ? (int)left : width; }

template <class real> static inline int mp_pixel_lanes(long, bool) { return 1; }
static inline unsigned mp_pixel_threads(long, int) { return 1; }
MP_DEVICE int mp_pixel_first(int) { return 0; }
MP_DEVICE int mp_pixel_stride(int) { return 1; }
template <int width> MP_DEVICE long mp_strip_first(int) { return 0; }
template <int width> MP_DEVICE long mp_strip_stride(int) { return width; }
static inline unsigned mp_channel_threads(long, long, long) { return 1; }

// Few channels are taken several adjacent rows at a time, so that the inner loop is long. As in mp_column_sums, rows are
// added in groups of 64, then the groups.
template <class real, class Constant, class Term, class Done>
MP_DEVICE void mp_channel_sums(long rows, int width, bool adjacent, Constant constant, Term term, Done done)
{
	const int fold = adjacent && width < 64 ? 128 / width : 1, columns = fold * width;
	const long whole = rows / fold * fold;
	decltype(constant(0)) value[MP_CHANNELS];
	real a[MP_CHANNELS] = {}, b[MP_CHANNELS] = {};
	for (int c = 0; c < columns; c++)
		value[c] = constant(c % width);
	for (long row = 0; row < whole;) {
		real part_a[MP_CHANNELS] = {}, part_b[MP_CHANNELS] = {};
		const long end = row + 64 * fold < whole ? row + 64 * fold : whole;
		for (; row + 4 * fold <= end; row += 4 * fold)
			for (int c = 0; c < columns; c++) {
				mp_pair<real> t0 = term(row, c, value[c]), t1 = term(row + fold, c, value[c]);
				mp_pair<real> t2 = term(row + 2 * fold, c, value[c]), t3 = term(row + 3 * fold, c, value[c]);
				part_a[c] += (t0.a + t1.a) + (t2.a + t3.a);
				part_b[c] += (t0.b + t1.b) + (t2.b + t3.b);
			}
		for (; row < end; row += fold)
			for (int c = 0; c < columns; c++) {
				mp_pair<real> t = term(row, c, value[c]);
				part_a[c] += t.a;
				part_b[c] += t.b;
			}
		for (int c = 0; c < columns; c++) {
			a[c] += part_a[c];
			b[c] += part_b[c];
		}
	}
	for (int c = 0; c < (rows - whole) * width; c++) {
		mp_pair<real> t = term(whole, c, value[c]);
		a[c] += t.a;
		b[c] += t.b;
	}
	for (int c = width; c < columns; c++) {
		a[c % width] += a[c];
		b[c % width] += b[c];
	}
	for (int c = 0; c < width; c++)
		done(c, value[c], mp_pair<real>{a[c], b[c]});
}

// Eight rows at a time, so that what is written lies together.
template <class real>
MP_DEVICE void mp_transpose_tile(real *__restrict__ y, const real *__restrict__ x, long rows, long columns, long row,
                                 long column)
{
	const long row_end = row + MP_SQUARE < rows ? row + MP_SQUARE : rows;
	const long column_end = column + MP_SQUARE < columns ? column + MP_SQUARE : columns;
	for (; row + 8 <= row_end; row += 8)
		for (long c = column; c < column_end; c++)
			for (int k = 0; k < 8; k++)
				y[c * rows + row + k] = x[(row + k) * columns + c];
	for (; row < row_end; row++)
		for (long c = column; c < column_end; c++)
			y[c * rows + row] = x[row * columns + c];
}

#endif
#endif
