// ---- mul_scalar: from templates/elementwise.cu

template <int width> MP_DEVICE void mul_scalar_strip(
	float *__restrict__ y0, const float *__restrict__ x0, const float *__restrict__ x1,
	long i)
{
	const auto in0 = mp_load<width>(x0 + i);
	float out0[width];
	MP_EACH_OF_STRIP(e, width)
		out0[e] = mp_mul(in0[e], x1[0]);
	mp_store<width>(y0 + i, out0, width);
}

static __global__ void mul_scalar_kernel(
	float *__restrict__ y0, const float *__restrict__ x0, const float *__restrict__ x1,
	long n, long strips)
{
	for (long strip = mp_first(); strip < strips; strip += mp_stride())
		mul_scalar_strip<MP_STRIP(float)>(
			y0, x0, x1,
			strip * MP_STRIP(float));
	MP_UNROLL
	for (long i = strips * MP_STRIP(float) + mp_first(); i < n; i += mp_stride())
		mul_scalar_strip<1>(
			y0, x0, x1,
			i);
}

// y0: float[n] = mul(x0, x1); x0: float[n]; x1: float[1]
void mul_scalar(
	float *y0, const float *x0, const float *x1,
	long n, cudaStream_t stream)
{
	const bool wide = mp_wide<float>(0,
		y0, x0
	);
	const long strips = wide ? n / MP_STRIP(float) : 0;
	MP_LAUNCH(mul_scalar_kernel, mp_blocks(wide ? strips : n), MP_THREADS, stream,
		y0, x0, x1,
		n, strips);
}
