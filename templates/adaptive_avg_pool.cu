// adaptive_avg_pool.cu: the template of means over bins that cover an image whatever its size: PyTorch's bins, which
// overlap by a pixel where the extents do not divide. Large bins, such as the whole image, take a block each, so that
// there are enough threads for few results; the others a thread for each result.
#include "mp_kernel.h"

typedef float real; //@ param

// The pixels of bin `at`: [at * extent / bins, ceil((at + 1) * extent / bins)).
MP_DEVICE mp_range tmpl_adaptive_avg_pool_bin(int at, int extent, int bins)
{
	return {(int)((unsigned)at * extent / bins), (int)(((unsigned)(at + 1) * extent + bins - 1) / bins)};
}

// A row of results; `rows` are the image's rows in their bins.
template <int width>
MP_DEVICE void tmpl_adaptive_avg_pool_row(real *__restrict__ y, const real *__restrict__ image, long channels,
		mp_range rows, int extent, int bins, int lanes)
{
	for (int q = mp_pixel_first(lanes); q < bins; q += mp_pixel_stride(lanes)) {
		const mp_range columns = tmpl_adaptive_avg_pool_bin(q, extent, bins);
		const real scale = 1 / (real)((rows.end - rows.first) * (columns.end - columns.first));
		for (long c = mp_strip_first<width>(lanes); c < channels; c += mp_strip_stride<width>(lanes)) {
			const int count = mp_strip_width<width>(channels - c);
			real sum[width];
			for (int k = 0; k < count; k++)
				sum[k] = 0;
			for (int h = rows.first; h < rows.end; h++) {
				MP_UNROLL
				for (int w = columns.first; w < columns.end; w++) {
					const auto from = mp_load<width>(image + ((long)h * extent + w) * channels + c);
					for (int k = 0; k < count; k++)
						sum[k] += from[k];
				}
			}
			for (int k = 0; k < count; k++)
				sum[k] *= scale;
			mp_store<width>(y + q * channels + c, sum, count);
		}
	}
}

static __global__ void tmpl_adaptive_avg_pool_kernel(real *__restrict__ y, const real *__restrict__ x, long n, int height,
		int extent, long channels, int p, int q, int lanes, bool wide)
{
	for (long row = blockIdx.x; row < n * p; row += gridDim.x) {
		const mp_range rows = tmpl_adaptive_avg_pool_bin((int)(row % p), height, p);
		const real *image = x + row / p * height * extent * channels;
		real *to = y + row * q * channels;
		if (wide)
			tmpl_adaptive_avg_pool_row<MP_WIDE(real)>(to, image, channels, rows, extent, q, lanes);
		else
			tmpl_adaptive_avg_pool_row<MP_NARROW>(to, image, channels, rows, extent, q, lanes);
	}
}

// A block for each bin and MP_CHANNELS channels.
static __global__ void tmpl_adaptive_avg_pool_large_kernel(real *__restrict__ y, const real *__restrict__ x, long n,
		int height, int extent, long channels, int p, int q)
{
	const long tiles = (channels + MP_CHANNELS - 1) / MP_CHANNELS;
	for (long block = blockIdx.x; block < n * p * q * tiles; block += gridDim.x) {
		const long result = block / tiles, first = block % tiles * MP_CHANNELS, row = result / q;
		const int channels_here = channels - first < MP_CHANNELS ? (int)(channels - first) : MP_CHANNELS;
		const mp_range down = tmpl_adaptive_avg_pool_bin((int)(row % p), height, p);
		const mp_range across = tmpl_adaptive_avg_pool_bin((int)(result % q), extent, q);
		const int columns = across.end - across.first, pixels = (down.end - down.first) * columns;
		const real *from = x + ((row / p * height + down.first) * extent + across.first) * channels + first;
		real *to = y + result * channels + first;
		mp_channel_sums<real>(pixels, channels_here, columns == extent && channels_here == channels,
			[](int) { return (real)0; },
			[=](long pixel, int c, real) {
				int at = (int)pixel, h = at / columns;
				return mp_pair<real>{from[((long)h * extent + (at - h * columns)) * channels + c], 0};
			},
			[=](int c, real, mp_pair<real> sum) { to[c] = sum.a * (1 / (real)pixels); });
	}
}

// y: real[n, p, q, c] = the means of the bins of x: real[n, h, w, c]; bin i of p has rows i * h / p to (i + 1) * h / p,
// rounded to the outside, and so for columns
void tmpl_adaptive_avg_pool(real *y, const real *x, long n, long h, long w, long c, long p, long q, cudaStream_t stream)
{
	const long pixels = (h / p) * (w / q), blocks = n * p * q * ((c + MP_CHANNELS - 1) / MP_CHANNELS);
	const bool wide = mp_wide<real>(c, y, x);
	const int lanes = mp_pixel_lanes<real>(c, wide);
	if (pixels >= 16)
		MP_LAUNCH(tmpl_adaptive_avg_pool_large_kernel, mp_row_blocks(blocks), mp_channel_threads(pixels, c, blocks), stream,
				y, x, n, (int)h, (int)w, c, (int)p, (int)q);
	else
		MP_LAUNCH(tmpl_adaptive_avg_pool_kernel, mp_row_blocks(n * p), mp_pixel_threads(q, lanes), stream,
				y, x, n, (int)h, (int)w, c, (int)p, (int)q, lanes, wide);
}
