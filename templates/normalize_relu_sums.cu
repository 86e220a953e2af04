// normalize_relu_sums.cu: the template of normalize_sums behind a ReLU: dy counts where what was normalised is positive.
// Its sign is computed again from x, which is read anyway, so the masked dy never lies in memory.
#include "mp_kernel.h"

typedef float real; //@ param

// What is constant along a channel.
struct tmpl_normalize_relu_sums_channel { real mean, rstd, weight, bias; };

// A block for each group, chunk and MP_CHANNELS channels.
static __global__ void tmpl_normalize_relu_sums_kernel(real *__restrict__ sums, real *__restrict__ products,
		const real *__restrict__ dy, const real *__restrict__ x, const real *__restrict__ mean,
		const real *__restrict__ rstd, const real *__restrict__ weight, const real *__restrict__ bias, long groups,
		long chunks, long rows, long channels, long repeat)
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
		const real *of_weight = weight + first, *of_bias = bias + first;
		real *to_sums = sums + chunk * channels + first, *to_products = products + chunk * channels + first;
		mp_channel_sums<real>(count, width, width == channels && repeat == 1,
			[=](int c) { return tmpl_normalize_relu_sums_channel{of_mean[c], of_rstd[c], of_weight[c], of_bias[c]}; },
			[=](long row, int c, const tmpl_normalize_relu_sums_channel &of) {
				const real v = value[row * channels + c], s = slope[row * slope_step + c]; // both are read at once, whatever the sign
				const real d = mp_relu_grad(s, mp_normalize(v, of.mean, of.rstd, of.weight, of.bias));
				return mp_pair<real>{d, d * (v - of.mean)};
			},
			[=](int c, const tmpl_normalize_relu_sums_channel &of, mp_pair<real> sum) {
				to_sums[c] = sum.a;
				to_products[c] = sum.b * of.rstd;
			});
	}
}

// sums, products: real[groups, chunks, channels] = the sums over a chunk's rows of d and of d * (x - mean) * rstd, where
// d = dy where (x - mean) * rstd * weight + bias > 0, else 0
// x: real[groups, rows, channels]; mean, rstd: real[groups, channels]; weight, bias: real[channels]; chunks as of
// channel_partials; dy: real[groups, rows / repeat, channels]: so many rows of x in turn share one of dy, and no chunk has
// rows of two such
void tmpl_normalize_relu_sums(real *sums, real *products, const real *dy, const real *x, const real *mean, const real *rstd,
		const real *weight, const real *bias, long groups, long chunks, long rows, long channels, long repeat, cudaStream_t stream)
{
	const long blocks = groups * chunks * ((channels + MP_CHANNELS - 1) / MP_CHANNELS);
	MP_LAUNCH(tmpl_normalize_relu_sums_kernel, mp_row_blocks(blocks), mp_channel_threads(rows / chunks, channels, blocks),
			stream, sums, products, dy, x, mean, rstd, weight, bias, groups, chunks, rows, channels, repeat);
}
