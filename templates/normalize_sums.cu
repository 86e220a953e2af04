// normalize_sums.cu: the template of the two sums over rows that the gradient of batch normalisation needs, of each
// chunk of a group's rows; they are the gradients of bias and weight once the chunks are added. Chunks are the
// parallel work, so their number does not come from the grid but from the caller.
#include "mp_kernel.h"

typedef float real; //@ param

// A block for each group, chunk and MP_CHANNELS channels.
static __global__ void tmpl_normalize_sums_kernel(real *__restrict__ sums, real *__restrict__ products,
		const real *__restrict__ dy, const real *__restrict__ x, const real *__restrict__ mean,
		const real *__restrict__ rstd, long groups, long chunks, long rows, long channels, long repeat)
{
	const long tiles = (channels + MP_CHANNELS - 1) / MP_CHANNELS;
	for (long block = blockIdx.x; block < groups * chunks * tiles; block += gridDim.x) {
		const long chunk = block / tiles, first = block % tiles * MP_CHANNELS, group = chunk / chunks;
		const int width = channels - first < MP_CHANNELS ? (int)(channels - first) : MP_CHANNELS;
		const long start = rows * (chunk % chunks) / chunks, count = rows * (chunk % chunks + 1) / chunks - start;
		const long from = (group * rows + start) * channels + first;
		const real *slope = dy + (repeat > 1 ? (group * rows + start) / repeat * channels + first : from), *value = x + from;
		const long slope_step = repeat > 1 ? 0 : channels;
		const real *of_mean = mean + group * channels + first, *of_rstd = rstd + group * channels + first;
		real *to_sums = sums + chunk * channels + first, *to_products = products + chunk * channels + first;
		mp_channel_sums<real>(count, width, width == channels && repeat == 1,
			[=](int c) { return of_mean[c]; },
			[=](long row, int c, real center) {
				const real d = slope[row * slope_step + c];
				return mp_pair<real>{d, d * (value[row * channels + c] - center)};
			},
			[=](int c, real, mp_pair<real> sum) {
				to_sums[c] = sum.a;
				to_products[c] = sum.b * of_rstd[c];
			});
	}
}

// sums, products: real[groups, chunks, channels] = the sums over a chunk's rows of dy and of dy * (x - mean) * rstd
// x: real[groups, rows, channels]; mean, rstd: real[groups, channels]; chunks as of channel_partials
// dy: real[groups, rows / repeat, channels]: so many rows of x in turn share one of dy, and no chunk has rows of two such
void tmpl_normalize_sums(real *sums, real *products, const real *dy, const real *x, const real *mean, const real *rstd,
		long groups, long chunks, long rows, long channels, long repeat, cudaStream_t stream)
{
	const long blocks = groups * chunks * ((channels + MP_CHANNELS - 1) / MP_CHANNELS);
	MP_LAUNCH(tmpl_normalize_sums_kernel, mp_row_blocks(blocks), mp_channel_threads(rows / chunks, channels, blocks),
			stream, sums, products, dy, x, mean, rstd, groups, chunks, rows, channels, repeat);
}
