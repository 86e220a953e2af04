// ---- update: from templates/sgd.cu

static __global__ void update_kernel(double *__restrict__ w, double *__restrict__ velocity,
		const double *__restrict__ gradient, const double *__restrict__ rate, const double *__restrict__ scale, long n,
		double momentum, double decay)
{
	const double step = *rate, factor = scale ? *scale : 1;
	MP_UNROLL
	for (long i = mp_first(); i < n; i += mp_stride()) {
		double change = factor * gradient[i] + decay * w[i];
		if (velocity)
			velocity[i] = change = momentum * velocity[i] + change;
		w[i] -= step * change;
	}
}

// w: double[n] -= *rate * v, where v = momentum * velocity + (*scale * gradient + decay * w) becomes the new velocity: double[n];
// velocity is NULL without momentum, scale without clipping; rate: double[1]
void update(double *w, double *velocity, const double *gradient, const double *rate, const double *scale, long n,
		double momentum, double decay, cudaStream_t stream)
{
	MP_LAUNCH(update_kernel, mp_blocks(n), MP_THREADS, stream, w, velocity, gradient, rate, scale, n, momentum, decay);
}
