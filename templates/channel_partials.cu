// channel_partials.cu: the template of the first half of batch normalisation's statistics: mean and squared deviations
// of each chunk of a group's rows, for channel_statistics.cu to combine. Chunks are the parallel work, so their number
// does not come from the grid but from the caller.
//
// One pass over the chunk, of the sums of d and d^2, d = x - shift with a shift near the mean: the median of 3 rows of
// the chunk. The method of shifted data loses the factor 1 + (mean - shift)^2 / variance (Chan, Golub, LeVeque, The
// American Statistician 37:3, 1983). That is about 2 for rows as they come; a row far from all others is no median;
// and it is below 1 + rows / 2 whatever the rows are, because 2 rows that lie far on one side make the variance large
// themselves. Two passes would read device memory twice.
#include "mp_kernel.h"

typedef float real; //@ param

// A block for each group, chunk and MP_CHANNELS channels.
static __global__ void tmpl_channel_partials_kernel(real *__restrict__ mean, real *__restrict__ deviations,
		const real *__restrict__ x, long groups, long chunks, long rows, long channels)
{
	const long tiles = (channels + MP_CHANNELS - 1) / MP_CHANNELS;
	for (long block = blockIdx.x; block < groups * chunks * tiles; block += gridDim.x) {
		const long chunk = block / tiles, first = block % tiles * MP_CHANNELS;
		const int width = channels - first < MP_CHANNELS ? (int)(channels - first) : MP_CHANNELS;
		const long start = rows * (chunk % chunks) / chunks, count = rows * (chunk % chunks + 1) / chunks - start;
		const real *from = x + (chunk / chunks * rows + start) * channels + first;
		real *to_mean = mean + chunk * channels + first, *to_deviations = deviations + chunk * channels + first;
		mp_channel_sums<real>(count, width, width == channels,
			[=](int c) {
				return count > 0 ? mp_median(from[c], from[count / 3 * channels + c], from[count * 2 / 3 * channels + c]) : 0;
			},
			[=](long row, int c, real shift) {
				real d = from[row * channels + c] - shift;
				return mp_pair<real>{d, d * d};
			},
			[=](int c, real shift, mp_pair<real> sum) {
				real offset = count > 0 ? sum.a / (real)count : 0, left = sum.b - sum.a * offset;
				to_mean[c] = shift + offset;
				to_deviations[c] = left < 0 ? 0 : left;
			});
	}
}

// mean, deviations: real[groups, chunks, channels] = the mean of a chunk's rows, and the sum of their squared
// deviations from it, of x: real[groups, rows, channels]; chunk j has the rows [rows * j / chunks, rows * (j + 1) /
// chunks)
void tmpl_channel_partials(real *mean, real *deviations, const real *x, long groups, long chunks, long rows, long channels,
		cudaStream_t stream)
{
	const long blocks = groups * chunks * ((channels + MP_CHANNELS - 1) / MP_CHANNELS);
	MP_LAUNCH(tmpl_channel_partials_kernel, mp_row_blocks(blocks), mp_channel_threads(rows / chunks, channels, blocks),
			stream, mean, deviations, x, groups, chunks, rows, channels);
}
