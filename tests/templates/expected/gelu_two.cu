// ---- gelu_two: from templates/elementwise_rows.cu

template <int width> MP_DEVICE void gelu_two_strips(
	float *__restrict__ y0, float *__restrict__ y1, const float *__restrict__ x0,
	const float *__restrict__ x1,
	long rows, long columns, int lanes)
{
	MP_MATRIX(row, rows, strip, columns / width, lanes) {
		const long column = strip * width, i = row * columns + column;
		const auto in0 = mp_load<width>(x0 + i);
		float out0[width], out1[width];
		MP_EACH_OF_STRIP(e, width) {
			float t0 = mp_scale(x1[row], 0.25f);

			out0[e] = mp_gelu_erf_grad(t0, in0[e]);
			out1[e] = mp_gelu_tanh(in0[e]);
		}
		mp_store<width>(y0 + i, out0, width);
		mp_store<width>(y1 + i, out1, width);
	}
}

static __global__ void gelu_two_kernel(
	float *__restrict__ y0, float *__restrict__ y1, const float *__restrict__ x0,
	const float *__restrict__ x1,
	long rows, long columns, int lanes, bool wide)
{
	if (wide)
		gelu_two_strips<MP_STRIP(float)>(
			y0, y1, x0, x1,
			rows, columns, lanes);
	else
		gelu_two_strips<1>(
			y0, y1, x0, x1,
			rows, columns, lanes);
}

void gelu_two(
	float *y0, float *y1, const float *x0, const float *x1,
	long rows, long columns, cudaStream_t stream)
{
	const bool wide = mp_wide<float>(columns,
		y0, y1, x0
	);
	const int lanes = mp_lanes(wide ? columns / MP_STRIP(float) : columns);
	MP_LAUNCH(gelu_two_kernel, mp_matrix_blocks(rows, lanes), MP_THREADS, stream,
		y0, y1, x0, x1,
		rows, columns, lanes, wide);
}
