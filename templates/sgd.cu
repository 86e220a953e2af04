// sgd.cu: the template of stochastic gradient descent with momentum and weight decay, as torch.optim.SGD defines them
// (dampening 0, no Nesterov). PyTorch's first step stores the gradient as the velocity, which is what a velocity of
// zero gives. The learning rate is read from device memory, so that a captured step can change it.
#include "mp_kernel.h"

typedef float real; //@ param

static __global__ void tmpl_sgd_kernel(real *__restrict__ w, real *__restrict__ velocity,
		const real *__restrict__ gradient, const real *__restrict__ rate, const real *__restrict__ scale, long n,
		real momentum, real decay)
{
	const real step = *rate, factor = scale ? *scale : 1;
	MP_UNROLL
	for (long i = mp_first(); i < n; i += mp_stride()) {
		real change = factor * gradient[i] + decay * w[i];
		if (velocity)
			velocity[i] = change = momentum * velocity[i] + change;
		w[i] -= step * change;
	}
}

// w: real[n] -= *rate * v, where v = momentum * velocity + (*scale * gradient + decay * w) becomes the new velocity: real[n];
// velocity is NULL without momentum, scale without clipping; rate: real[1]
void tmpl_sgd(real *w, real *velocity, const real *gradient, const real *rate, const real *scale, long n,
		real momentum, real decay, cudaStream_t stream)
{
	MP_LAUNCH(tmpl_sgd_kernel, mp_blocks(n), MP_THREADS, stream, w, velocity, gradient, rate, scale, n, momentum, decay);
}
