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

// Where a strip starts, as the compiler should know it: it then loads and stores the strip at once.
template <int width, class T> MP_DEVICE T *mp_strip(T *start)
{
	return (T *)__builtin_assume_aligned(start, width * sizeof(T) < 16 ? width * sizeof(T) : 16);
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

// Two sums over `rows` for each of `width` <= MP_CHANNELS adjacent channels, by the whole block: constant(c) is computed
// once for channel c; term(row, c, constant) has what the row adds to the sums; done(c, constant, sums) is called by one
// thread for each channel. adjacent: no other channels lie between the rows.
// Adjacent threads read adjacent channels, and the next threads the next row; then the threads of a channel are added in
// pairs. Eight terms are read before the first is added, as in mp_strided_sum.
template <class real, class Constant, class Term, class Done>
MP_DEVICE void mp_channel_sums(long rows, int width, bool, Constant constant, Term term, Done done)
{
	__shared__ mp_pair<real> of_thread[512];
	const int channel = threadIdx.x % width, slot = threadIdx.x / width, slots = blockDim.x / width;
	const auto value = constant(channel);
	mp_pair<real> sum = {0, 0};
	for (long first = slot < slots ? slot : rows; first < rows; first += 8L * slots) {
		mp_pair<real> add[8];
#pragma unroll
		for (int k = 0; k < 8; k++) {
			long row = first + (long)k * slots;
			add[k] = row < rows ? term(row, channel, value) : mp_pair<real>{0, 0};
		}
#pragma unroll
		for (int k = 0; k < 8; k++) {
			sum.a += add[k].a;
			sum.b += add[k].b;
		}
	}
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
	MP_UNROLL
	for (int r = first; r < MP_SQUARE; r += step)
		if (row + r < rows && column + lane < columns)
			tile[r][lane] = x[(row + r) * columns + column + lane];
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
template <int width, class T> MP_DEVICE T *mp_strip(T *start) { return start; }
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

template <class real>
MP_DEVICE void mp_transpose_tile(real *__restrict__ y, const real *__restrict__ x, long rows, long columns, long row,
                                 long column)
{
	const long row_end = row + MP_SQUARE < rows ? row + MP_SQUARE : rows;
	const long column_end = column + MP_SQUARE < columns ? column + MP_SQUARE : columns;
	for (long c = column; c < column_end; c++)
		for (long r = row; r < row_end; r++)
			y[c * rows + r] = x[r * columns + c];
}

#endif
#endif
