// ---- bias_relu: from templates/elementwise_rows.cu

static __global__ void bias_relu_kernel(
	float *__restrict__ y0, const float *__restrict__ x0, const float *__restrict__ x1,
	long rows, long columns, int lanes)
{
	MP_MATRIX(row, rows, column, columns, lanes) {
		long i = row * columns + column;
		float t0 = mp_add(x0[i], x1[column]);
		y0[i] = mp_relu(t0);
	}
}

// y0: float[rows, columns] = relu(add(x0, x1)); x0: float[rows, columns]; x1: float[columns]
void bias_relu(
	float *y0, const float *x0, const float *x1,
	long rows, long columns, cudaStream_t stream)
{
	int lanes = mp_lanes(columns);
	MP_LAUNCH(bias_relu_kernel, mp_matrix_blocks(rows, lanes), MP_THREADS, stream,
		y0, x0, x1,
		rows, columns, lanes);
}
