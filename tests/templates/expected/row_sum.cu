// ---- row_sum: from templates/sum.cu

static __global__ void row_sum_rows_kernel(float *__restrict__ y, const float *__restrict__ x, long outer, long n,
		float scale, bool accumulate)
{
	for (long o = blockIdx.x; o < outer; o += gridDim.x) {
		const float *row = x + o * n;
		float value = mp_sum_over<float>(n, [=](long i) { return row[i]; }) * scale;
		if (threadIdx.x == 0)
			y[o] = accumulate ? y[o] + value : value;
	}
}

static __global__ void row_sum_columns_kernel(float *__restrict__ y, const float *__restrict__ x, long outer, long n,
		long inner, float scale, bool accumulate)
{
	long tiles = (inner + MP_TILE - 1) / MP_TILE;
	for (long tile = blockIdx.x; tile < outer * tiles; tile += gridDim.x) {
		long o = tile / tiles, first = tile % tiles * MP_TILE;
		int width = inner - first < MP_TILE ? (int)(inner - first) : MP_TILE;
		float *to = y + o * inner + first;
		mp_column_sums(x + o * n * inner + first, n, inner, width, [=](int column, float sum) {
			float value = sum * scale;
			to[column] = accumulate ? to[column] + value : value;
		});
	}
}

// y: float[outer, inner] = scale * the sum over n of x: float[outer, n, inner]; y += when accumulate.
// A sum to one scalar is the work of one block: meant for up to a million elements.
void row_sum(float *y, const float *x, long outer, long n, long inner, float scale, bool accumulate, cudaStream_t stream)
{
	long tiles = outer * ((inner + MP_TILE - 1) / MP_TILE);
	if (inner == 1)
		MP_LAUNCH(row_sum_rows_kernel, mp_row_blocks(outer), mp_row_threads(n), stream,
				y, x, outer, n, scale, accumulate);
	else
		MP_LAUNCH(row_sum_columns_kernel, mp_row_blocks(tiles), mp_column_threads(n, tiles), stream,
				y, x, outer, n, inner, scale, accumulate);
}
