// merge_statistics.cu: the template of a statistics group that spans replicas: their means and variances, of equally
// many rows each, become those of all rows, in the order of the replicas.
#include "mp_kernel.h"

typedef float real; //@ param

static __global__ void tmpl_merge_statistics_kernel(real *__restrict__ mean, real *__restrict__ variance,
		real *__restrict__ rstd, const real *__restrict__ of_mean, const real *__restrict__ of_variance,
		long groups, long replicas, long channels, real eps, int lanes)
{
	const real scale = 1 / (real)replicas;
	for (long group = mp_row_first(lanes); group < groups; group += mp_row_stride(lanes))
		for (long c = mp_column_first(lanes); c < channels; c += mp_column_stride(lanes)) {
			const long from = group * replicas * channels + c, to = group * channels + c;
			// Differences to the first mean: means that are equal stay what they are.
			real offset = 0, sum = 0;
			for (long r = 1; r < replicas; r++)
				offset += of_mean[from + r * channels] - of_mean[from];
			const real middle = of_mean[from] + offset * scale;
			for (long r = 0; r < replicas; r++) {
				real d = of_mean[from + r * channels] - middle;
				sum += of_variance[from + r * channels] + d * d;
			}
			mean[to] = middle;
			variance[to] = sum * scale;
			rstd[to] = mp_rstd(sum * scale, eps);
		}
}

// mean, variance, rstd: real[groups, channels] = those of all replicas' rows, rstd = 1 / sqrt(variance + eps)
// of_mean, of_variance: real[groups, replicas, channels]
void tmpl_merge_statistics(real *mean, real *variance, real *rstd, const real *of_mean, const real *of_variance, long groups,
		long replicas, long channels, real eps, cudaStream_t stream)
{
	int lanes = mp_lanes(channels);
	MP_LAUNCH(tmpl_merge_statistics_kernel, mp_matrix_blocks(groups, lanes), MP_THREADS, stream,
			mean, variance, rstd, of_mean, of_variance, groups, replicas, channels, eps, lanes);
}
