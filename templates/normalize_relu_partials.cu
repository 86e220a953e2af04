// normalize_relu_partials.cu: the template of the first half of a mean over pixels behind batch normalisation and a ReLU:
// sums over chunks of each sample's pixels, so that what is summed never lies in memory. Chunks are the parallel work, so
// their number does not come from the grid but from the caller.
#include "mp_kernel.h"

typedef float real; //@ param

// What is constant along a channel.
struct tmpl_normalize_relu_partials_channel { real mean, rstd, weight, bias; };

// A block for each sample, chunk and MP_CHANNELS channels.
static __global__ void tmpl_normalize_relu_partials_kernel(real *__restrict__ y, const real *__restrict__ x,
		const real *__restrict__ mean, const real *__restrict__ rstd, const real *__restrict__ weight,
		const real *__restrict__ bias, long groups, long samples, long chunks, long pixels, long channels)
{
	const long tiles = (channels + MP_CHANNELS - 1) / MP_CHANNELS;
	for (long block = blockIdx.x; block < groups * samples * chunks * tiles; block += gridDim.x) {
		const long chunk = block / tiles, first = block % tiles * MP_CHANNELS, sample = chunk / chunks, group = sample / samples;
		const int width = channels - first < MP_CHANNELS ? (int)(channels - first) : MP_CHANNELS;
		const long start = pixels * (chunk % chunks) / chunks, count = pixels * (chunk % chunks + 1) / chunks - start;
		const real *from = x + (sample * pixels + start) * channels + first;
		const real *of_mean = mean + group * channels + first, *of_rstd = rstd + group * channels + first;
		const real *of_weight = weight + first, *of_bias = bias + first;
		real *to = y + chunk * channels + first;
		mp_channel_sums<real>(count, width, width == channels,
			[=](int c) { return tmpl_normalize_relu_partials_channel{of_mean[c], of_rstd[c], of_weight[c], of_bias[c]}; },
			[=](long row, int c, const tmpl_normalize_relu_partials_channel &of) {
				return mp_pair<real>{mp_relu(mp_normalize(from[row * channels + c], of.mean, of.rstd, of.weight, of.bias)), 0};
			},
			[=](int c, const tmpl_normalize_relu_partials_channel &, mp_pair<real> sum) { to[c] = sum.a; });
	}
}

// y: real[groups, samples, chunks, channels] = the sums over a chunk's pixels of relu((x - mean) * rstd * weight + bias)
// x: real[groups, samples, pixels, channels]; mean, rstd: real[groups, channels]; weight, bias: real[channels]; chunk j has
// the pixels [pixels * j / chunks, pixels * (j + 1) / chunks) of its sample
void tmpl_normalize_relu_partials(real *y, const real *x, const real *mean, const real *rstd, const real *weight,
		const real *bias, long groups, long samples, long chunks, long pixels, long channels, cudaStream_t stream)
{
	const long blocks = groups * samples * chunks * ((channels + MP_CHANNELS - 1) / MP_CHANNELS);
	MP_LAUNCH(tmpl_normalize_relu_partials_kernel, mp_row_blocks(blocks), mp_channel_threads(pixels / chunks, channels, blocks),
			stream, y, x, mean, rstd, weight, bias, groups, samples, chunks, pixels, channels);
}
