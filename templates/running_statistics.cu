// running_statistics.cu: the template of batch normalisation's running statistics, as torch.nn.BatchNorm2d defines
// them: one update for each statistics group, in the groups' order, with the unbiased variance.
#include "mp_kernel.h"

typedef float real; //@ param

static __global__ void tmpl_running_statistics_kernel(real *__restrict__ running_mean, real *__restrict__ running_var,
		int *__restrict__ batches, const real *__restrict__ mean, const real *__restrict__ variance,
		long groups, long rows, long channels, real momentum)
{
	const real unbiased = rows > 1 ? (real)rows / (real)(rows - 1) : 1;
	for (long c = mp_first(); c < channels; c += mp_stride()) {
		real m = running_mean[c], v = running_var[c];
		MP_UNROLL
		for (long g = 0; g < groups; g++) {
			m = (1 - momentum) * m + momentum * mean[g * channels + c];
			v = (1 - momentum) * v + momentum * (variance[g * channels + c] * unbiased);
		}
		running_mean[c] = m;
		running_var[c] = v;
	}
	if (blockIdx.x == 0 && threadIdx.x == 0)
		*batches += (int)groups;
}

// For each group, in order: running_mean, running_var: real[channels] = (1 - momentum) * running + momentum *
// statistic, the variance times rows / (rows - 1); batches: int[1] += groups
// mean, variance: real[groups, channels], of `rows` rows each, variance divided by rows
void tmpl_running_statistics(real *running_mean, real *running_var, int *batches, const real *mean, const real *variance,
		long groups, long rows, long channels, real momentum, cudaStream_t stream)
{
	MP_LAUNCH(tmpl_running_statistics_kernel, mp_blocks(channels), MP_THREADS, stream,
			running_mean, running_var, batches, mean, variance, groups, rows, channels, momentum);
}
