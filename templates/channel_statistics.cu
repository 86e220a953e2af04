// channel_statistics.cu: the template of the second half of batch normalisation's statistics: the chunks of
// channel_partials.cu become the mean and variance of each group's rows. While evaluating, the running statistics take
// their place, so that what normalises need not know.
//
// A chunk of n rows with mean m and squared deviations s counts as n (m - shift) and s + n (m - shift)^2, which is how
// Chan, Golub and LeVeque combine parts; the shift is the median of 3 chunks' means (channel_partials.cu says why that
// is near enough).
#include "mp_kernel.h"

typedef float real; //@ param

// A block for each group and MP_CHANNELS channels.
static __global__ void tmpl_channel_statistics_kernel(real *__restrict__ mean, real *__restrict__ variance,
		real *__restrict__ rstd, const real *__restrict__ partial_mean,
		const real *__restrict__ partial_deviations, long groups, long chunks, long rows, long channels,
		real eps)
{
	const long tiles = (channels + MP_CHANNELS - 1) / MP_CHANNELS, each = rows / chunks;
	const unsigned rest = (unsigned)(rows % chunks);
	for (long block = blockIdx.x; block < groups * tiles; block += gridDim.x) {
		const long group = block / tiles, first = block % tiles * MP_CHANNELS;
		const int width = channels - first < MP_CHANNELS ? (int)(channels - first) : MP_CHANNELS;
		const long from = group * chunks * channels + first, to = group * channels + first;
		const real *of_mean = partial_mean + from, *of_deviations = partial_deviations + from;
		mp_channel_sums<real>(chunks, width, false,
			[=](int c) {
				return mp_median(of_mean[c], of_mean[chunks / 3 * channels + c], of_mean[chunks * 2 / 3 * channels + c]);
			},
			[=](long chunk, int c, real shift) {
				unsigned j = (unsigned)chunk; // rows * j / chunks = each * j + rest * j / chunks, the latter in 32 bits
				real n = (real)(each + (rest * (j + 1) / (unsigned)chunks - rest * j / (unsigned)chunks));
				real d = of_mean[chunk * channels + c] - shift;
				return mp_pair<real>{n * d, of_deviations[chunk * channels + c] + n * d * d};
			},
			[=](int c, real shift, mp_pair<real> sum) {
				real offset = sum.a / (real)rows, left = (sum.b - sum.a * offset) / (real)rows;
				left = left < 0 ? 0 : left;
				mean[to + c] = shift + offset;
				variance[to + c] = left;
				rstd[to + c] = mp_rstd(left, eps);
			});
	}
}

static __global__ void tmpl_channel_statistics_running_kernel(real *__restrict__ mean, real *__restrict__ variance,
		real *__restrict__ rstd, const real *__restrict__ running_mean,
		const real *__restrict__ running_var, long groups, long channels, real eps)
{
	for (long c = mp_first(); c < channels; c += mp_stride())
		for (long group = 0; group < groups; group++) {
			mean[group * channels + c] = running_mean[c];
			variance[group * channels + c] = running_var[c];
			rstd[group * channels + c] = mp_rstd(running_var[c], eps);
		}
}

// mean, variance, rstd: real[groups, channels] = the mean of a group's rows, their variance (divided by rows) and
// 1 / sqrt(variance + eps), from partial_mean, partial_deviations: real[groups, chunks, channels] of channel_partials;
// evaluating: running_mean, running_var: real[channels] for every group instead. chunks < 65536
void tmpl_channel_statistics(real *mean, real *variance, real *rstd, const real *partial_mean,
		const real *partial_deviations, const real *running_mean, const real *running_var, long groups, long chunks,
		long rows, long channels, real eps, bool evaluating, cudaStream_t stream)
{
	const long blocks = groups * ((channels + MP_CHANNELS - 1) / MP_CHANNELS);
	if (evaluating)
		MP_LAUNCH(tmpl_channel_statistics_running_kernel, mp_blocks(channels), MP_THREADS, stream,
				mean, variance, rstd, running_mean, running_var, groups, channels, eps);
	else
		MP_LAUNCH(tmpl_channel_statistics_kernel, mp_row_blocks(blocks), mp_channel_threads(chunks, channels, blocks),
				stream, mean, variance, rstd, partial_mean, partial_deviations, groups, chunks, rows, channels, eps);
}
