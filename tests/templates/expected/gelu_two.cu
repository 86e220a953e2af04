// ---- gelu_two: from templates/elementwise_rows.cu

static __global__ void gelu_two_kernel(
	float *__restrict__ y0, float *__restrict__ y1, const float *__restrict__ x0,
	const float *__restrict__ x1,
	long rows, long columns, int lanes)
{
	MP_MATRIX(row, rows, column, columns, lanes) {
		long i = row * columns + column;
		float t0 = mp_scale(x1[row], 0.25f);

		y0[i] = mp_gelu_erf_grad(t0, x0[i]);
		y1[i] = mp_gelu_tanh(x0[i]);
	}
}

void gelu_two(
	float *y0, float *y1, const float *x0, const float *x1,
	long rows, long columns, cudaStream_t stream)
{
	int lanes = mp_lanes(columns);
	MP_LAUNCH(gelu_two_kernel, mp_matrix_blocks(rows, lanes), MP_THREADS, stream,
		y0, y1, x0, x1,
		rows, columns, lanes);
}
