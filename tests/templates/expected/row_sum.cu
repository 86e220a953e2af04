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

// The sums of `tile` adjacent columns, by a block.
template <int tile> MP_DEVICE void row_sum_tiles(float *__restrict__ y, const float *__restrict__ x, long outer, long n,
		long inner, float scale, bool accumulate)
{
	const long tiles = (inner + tile - 1) / tile;
	for (long block = blockIdx.x; block < outer * tiles; block += gridDim.x) {
		long o = block / tiles, first = block % tiles * tile;
		int width = inner - first < tile ? (int)(inner - first) : tile;
		float *to = y + o * inner + first;
		mp_column_sums<tile, float>(x + o * n * inner + first, n, inner, width, [=](int column, float sum) {
			float value = sum * scale;
			to[column] = accumulate ? to[column] + value : value;
		});
	}
}

static __global__ void row_sum_columns_kernel(float *__restrict__ y, const float *__restrict__ x, long outer, long n,
		long inner, float scale, bool accumulate, bool wide)
{
	if (wide)
		row_sum_tiles<MP_WIDE_TILE>(y, x, outer, n, inner, scale, accumulate);
	else
		row_sum_tiles<MP_TILE>(y, x, outer, n, inner, scale, accumulate);
}

// y: float[outer, inner] = scale * the sum over n of x: float[outer, n, inner]; y += when accumulate.
// A sum to one scalar is the work of one block: meant for up to a million elements.
void row_sum(float *y, const float *x, long outer, long n, long inner, float scale, bool accumulate, cudaStream_t stream)
{
	const bool wide = outer * (inner / MP_WIDE_TILE) >= 100; // blocks for the largest GPUs
	const int tile = wide ? MP_WIDE_TILE : MP_TILE;
	const long tiles = outer * ((inner + tile - 1) / tile);
	if (inner == 1)
		MP_LAUNCH(row_sum_rows_kernel, mp_row_blocks(outer), mp_row_threads(n), stream,
				y, x, outer, n, scale, accumulate);
	else
		MP_LAUNCH(row_sum_columns_kernel, mp_row_blocks(tiles), mp_column_threads(n, tile, tiles), stream,
				y, x, outer, n, inner, scale, accumulate, wide);
}
