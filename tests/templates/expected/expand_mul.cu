// ---- expand_mul: from templates/elementwise_rows.cu

static __global__ void expand_mul_kernel(
	float *__restrict__ y0, const float *__restrict__ x0, long n0,
	long rows, long columns, int lanes)
{
	MP_MATRIX(row, rows, column, columns, lanes) {
		long i = row * columns + column;
		float t0 = mp_copy(x0[row / n0 * columns + column]);
		y0[i] = mp_mul(y0[i], t0);
	}
}

// y0: float[outer, n0, columns] *= expand(x0), rows = outer * n0; x0: float[outer, columns]
void expand_mul(
	float *y0, const float *x0, long n0,
	long rows, long columns, cudaStream_t stream)
{
	int lanes = mp_lanes(columns);
	MP_LAUNCH(expand_mul_kernel, mp_matrix_blocks(rows, lanes), MP_THREADS, stream,
		y0, x0, n0,
		rows, columns, lanes);
}
