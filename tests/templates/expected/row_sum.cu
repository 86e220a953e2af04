// ---- row_sum: from templates/sum.cu

static __global__ void row_sum_rows_kernel(float *__restrict__ y, const float *__restrict__ x, long outer, long n,
		float scale, bool accumulate)
{
	for (long o = blockIdx.x; o < outer; o += gridDim.x) {
		const float *row = x + o * n;
		float value = mp_sum_over<float>(n, [=](long i) { return (float)row[i]; }) * scale;
		if (threadIdx.x == 0)
			y[o] = accumulate ? y[o] + value : value;
	}
}

// Of tiles of lanes * strip columns, a block's each.
template <int strip> MP_DEVICE void row_sum_tiles(float *__restrict__ y, const float *__restrict__ x, long outer, long n,
		long inner, float scale, bool accumulate, int lanes)
{
	const long tile = lanes * strip, tiles = (inner + tile - 1) / tile;
	for (long block = blockIdx.x; block < outer * tiles; block += gridDim.x) {
		const long o = block / tiles, first = block % tiles * tile;
		float *to = y + o * inner + first;
		mp_column_sums<strip, float>(x + o * n * inner + first, n, inner, inner - first, lanes, [=](int column, float sum) {
			const float value = sum * scale;
			to[column] = accumulate ? to[column] + value : value;
		});
	}
}

static MP_SUM_BLOCKS __global__ void row_sum_columns_kernel(float *__restrict__ y, const float *__restrict__ x, long outer,
		long n, long inner, float scale, bool accumulate, int lanes, bool wide)
{
	if (wide)
		row_sum_tiles<MP_STRIP(float)>(y, x, outer, n, inner, scale, accumulate, lanes);
	else
		row_sum_tiles<1>(y, x, outer, n, inner, scale, accumulate, lanes);
}

// y: float[outer, inner] = scale * the sum over n of x: float[outer, n, inner]; y += when accumulate.
// A sum to one scalar is the work of one block: meant for up to a million elements.
void row_sum(float *y, const float *x, long outer, long n, long inner, float scale, bool accumulate, cudaStream_t stream)
{
	const bool wide = mp_wide<float>(inner, x);
	const int strip = wide ? MP_STRIP(float) : 1, lanes = mp_sum_lanes((inner + strip - 1) / strip, outer);
	if (inner == 1)
		MP_LAUNCH(row_sum_rows_kernel, mp_row_blocks(outer), mp_row_threads(n), stream,
				y, x, outer, n, scale, accumulate);
	else
		MP_LAUNCH(row_sum_columns_kernel, mp_row_blocks(outer * ((inner + lanes * strip - 1) / (lanes * strip))),
				mp_sum_threads(n, lanes), stream, y, x, outer, n, inner, scale, accumulate, lanes, wide);
}
