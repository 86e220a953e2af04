// gradient_norm.cu: the template of the norm of all gradients and of what they are multiplied by to be no longer than a
// limit, as torch.nn.utils.clip_grad_norm_ defines it.
#include "mp_kernel.h"

typedef float real; //@ param

static __global__ void tmpl_gradient_norm_kernel(real *__restrict__ norm, real *__restrict__ scale,
		const real *__restrict__ square, long n, real limit)
{
	real length = mp_sqrt(mp_sum_over<real>(n, [=](long i) { return square[i]; }));
	if (threadIdx.x == 0) {
		real factor = limit / (length + (real)1e-6);
		*norm = length;
		*scale = limit == 0 || factor > 1 ? 1 : factor;
	}
}

// norm: real[1] = sqrt of the sum of square: real[n]; scale: real[1] = min(1, limit / (norm + 1e-6)), 1 where limit is 0.
// A norm that is not a number gives such a scale: the next loss then ends the run.
void tmpl_gradient_norm(real *norm, real *scale, const real *square, long n, real limit, cudaStream_t stream)
{
	MP_LAUNCH(tmpl_gradient_norm_kernel, 1, mp_row_threads(n), stream, norm, scale, square, n, limit);
}
