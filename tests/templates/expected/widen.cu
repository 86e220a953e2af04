// ---- widen: from templates/elementwise.cu

template <int width> MP_DEVICE void widen_strip(
	float *__restrict__ y0, const mp_bf16 *__restrict__ x0, const float *__restrict__ x1,
	long i)
{
	const auto in0 = mp_load<width>(x0 + i);
	const auto in1 = mp_load<width>(x1 + i);
	float out0[width];
	MP_EACH_OF_STRIP(e, width)
		out0[e] = mp_add((float)in0[e], in1[e]);
	mp_store<width>(y0 + i, out0, width);
}

static __global__ void widen_kernel(
	float *__restrict__ y0, const mp_bf16 *__restrict__ x0, const float *__restrict__ x1,
	long n, long strips)
{
	for (long strip = mp_first(); strip < strips; strip += mp_stride())
		widen_strip<MP_STRIP(mp_bf16)>(
			y0, x0, x1,
			strip * MP_STRIP(mp_bf16));
	MP_UNROLL
	for (long i = strips * MP_STRIP(mp_bf16) + mp_first(); i < n; i += mp_stride())
		widen_strip<1>(
			y0, x0, x1,
			i);
}

// y0: float[n] = add(x0, x1); x0: mp_bf16[n]; x1: float[n]
void widen(
	float *y0, const mp_bf16 *x0, const float *x1,
	long n, cudaStream_t stream)
{
	const bool wide = mp_wide<mp_bf16>(0,
		y0, x0, x1
	);
	const long strips = wide ? n / MP_STRIP(mp_bf16) : 0;
	MP_LAUNCH(widen_kernel, mp_blocks(wide ? strips : n), MP_THREADS, stream,
		y0, x0, x1,
		n, strips);
}
