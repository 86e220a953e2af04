// adamw.cu: the template of AdamW (Loshchilov and Hutter, arXiv:1711.05101) as torch.optim.AdamW defines it: decay
// apart from the gradient, bias corrected by the number of the step. Learning rate and step are read from device memory,
// so that a captured step can change them. 1 - beta^step is -expm1(step * log(beta)): exact also where beta is nearly 1.
#include "mp_kernel.h"

typedef float real; //@ param

static __global__ void tmpl_adamw_kernel(real *__restrict__ w, real *__restrict__ average, real *__restrict__ square,
		const real *__restrict__ gradient, const real *__restrict__ rate, const int *__restrict__ step,
		const real *__restrict__ scale, long n, real beta1, real beta2, real rest1, real rest2, real log1, real log2,
		real epsilon, real decay)
{
	const real factor = scale ? *scale : 1;
	const real keep = 1 - *rate * decay;
	const real size = *rate / -expm1((real)*step * log1), root = mp_sqrt(-expm1((real)*step * log2));
	MP_UNROLL
	for (long i = mp_first(); i < n; i += mp_stride()) {
		real g = factor * gradient[i];
		real first = beta1 * average[i] + rest1 * g;
		real second = beta2 * square[i] + rest2 * g * g;
		average[i] = first;
		square[i] = second;
		w[i] = keep * w[i] - size * (first / (mp_sqrt(second) / root + epsilon));
	}
}

// With g = *scale * gradient (scale is NULL without clipping), *rate and *step (from 1):
//   average: real[n] = beta1 average + (1 - beta1) g; square: real[n] = beta2 square + (1 - beta2) g^2
//   w: real[n] = (1 - *rate * decay) w - *rate / (1 - beta1^step) average / (sqrt(square / (1 - beta2^step)) + epsilon)
// The betas are double, because of what is subtracted from 1.
void tmpl_adamw(real *w, real *average, real *square, const real *gradient, const real *rate, const int *step,
		const real *scale, long n, double beta1, double beta2, real epsilon, real decay, cudaStream_t stream)
{
	MP_LAUNCH(tmpl_adamw_kernel, mp_blocks(n), MP_THREADS, stream, w, average, square, gradient, rate, step, scale, n,
			(real)beta1, (real)beta2, (real)(1 - beta1), (real)(1 - beta2), (real)log(beta1), (real)log(beta2), epsilon, decay);
}
