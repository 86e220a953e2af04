// w: double[n] -= *rate * v, where v = momentum * velocity + (*scale * gradient + decay * w) becomes the new velocity: double[n];
// velocity is NULL without momentum, scale without clipping; rate: double[1]
void update(double *w, double *velocity, const double *gradient, const double *rate, const double *scale, long n,
		double momentum, double decay, cudaStream_t stream);
