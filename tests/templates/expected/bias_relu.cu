// ---- bias_relu: from templates/elementwise_rows.cu

template <int width> MP_DEVICE void bias_relu_strips(
	float *__restrict__ y0, const float *__restrict__ x0, const float *__restrict__ x1,
	long rows, long columns, int lanes)
{
	MP_MATRIX(row, rows, strip, columns / width, lanes) {
		const long column = strip * width, i = row * columns + column;
		const auto in0 = mp_load<width>(x0 + i), in1 = mp_load<width>(x1 + column);
		float out0[width];
		MP_EACH_OF_STRIP(e, width) {
			float t0 = mp_add(in0[e], in1[e]);
			out0[e] = mp_relu(t0);
		}
		mp_store<width>(y0 + i, out0, width);
	}
}

static __global__ void bias_relu_kernel(
	float *__restrict__ y0, const float *__restrict__ x0, const float *__restrict__ x1,
	long rows, long columns, int lanes, bool wide)
{
	if (wide)
		bias_relu_strips<MP_STRIP(float)>(
			y0, x0, x1,
			rows, columns, lanes);
	else
		bias_relu_strips<1>(
			y0, x0, x1,
			rows, columns, lanes);
}

// y0: float[rows, columns] = relu(add(x0, x1)); x0: float[rows, columns]; x1: float[columns]
void bias_relu(
	float *y0, const float *x0, const float *x1,
	long rows, long columns, cudaStream_t stream)
{
	const bool wide = mp_wide<float>(columns,
		y0, x0, x1
	);
	const int lanes = mp_lanes(wide ? columns / MP_STRIP(float) : columns);
	MP_LAUNCH(bias_relu_kernel, mp_matrix_blocks(rows, lanes), MP_THREADS, stream,
		y0, x0, x1,
		rows, columns, lanes, wide);
}
