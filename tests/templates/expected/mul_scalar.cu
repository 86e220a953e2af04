// ---- mul_scalar: from templates/elementwise.cu

static __global__ void mul_scalar_kernel(
	float *__restrict__ y0, const float *__restrict__ x0, const float *__restrict__ x1,
	long n)
{
	MP_UNROLL
	for (long i = mp_first(); i < n; i += mp_stride()) {
		y0[i] = mp_mul(x0[i], x1[0]);
	}
}

// y0: float[n] = mul(x0, x1); x0: float[n]; x1: float[1]
void mul_scalar(
	float *y0, const float *x0, const float *x1,
	long n, cudaStream_t stream)
{
	MP_LAUNCH(mul_scalar_kernel, mp_blocks(n), MP_THREADS, stream,
		y0, x0, x1,
		n);
}
