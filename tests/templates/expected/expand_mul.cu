// ---- expand_mul: from templates/elementwise_rows.cu

template <int width> MP_DEVICE void expand_mul_strips(
	float *__restrict__ y0, const float *__restrict__ x0, long n0,
	long rows, long columns, int lanes)
{
	MP_MATRIX(row, rows, strip, columns / width, lanes) {
		const long column = strip * width, i = row * columns + column;
		const auto in0 = mp_load<width>(x0 + row / n0 * columns + column), was0 = mp_load<width>(y0 + i);
		float out0[width];
		MP_EACH_OF_STRIP(e, width) {
			float t0 = mp_copy(in0[e]);
			out0[e] = mp_mul(was0[e], t0);
		}
		mp_store<width>(y0 + i, out0, width);
	}
}

static __global__ void expand_mul_kernel(
	float *__restrict__ y0, const float *__restrict__ x0, long n0,
	long rows, long columns, int lanes, bool wide)
{
	if (wide)
		expand_mul_strips<MP_STRIP(float)>(
			y0, x0, n0,
			rows, columns, lanes);
	else
		expand_mul_strips<1>(
			y0, x0, n0,
			rows, columns, lanes);
}

// y0: float[outer, n0, columns] *= expand(x0), rows = outer * n0; x0: float[outer, columns]
void expand_mul(
	float *y0, const float *x0, long n0,
	long rows, long columns, cudaStream_t stream)
{
	const bool wide = mp_wide<float>(columns,
		y0, x0
	);
	const int lanes = mp_lanes(wide ? columns / MP_STRIP(float) : columns);
	MP_LAUNCH(expand_mul_kernel, mp_matrix_blocks(rows, lanes), MP_THREADS, stream,
		y0, x0, n0,
		rows, columns, lanes, wide);
}
