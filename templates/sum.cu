// sum.cu: the template of sums over one dim. A tensor is seen as [outer, n, inner]. With inner = 1 the terms of a sum
// are adjacent and a block takes each sum; otherwise a block takes some adjacent columns, so that what it reads is
// contiguous. The order of the additions depends on the extents alone, never on the grid, and there are no atomics.
#include "mp_kernel.h"

typedef float real; //@ param
typedef float full; //@ param

static __global__ void tmpl_sum_rows_kernel(full *__restrict__ y, const real *__restrict__ x, long outer, long n,
		full scale, bool accumulate)
{
	for (long o = blockIdx.x; o < outer; o += gridDim.x) {
		const real *row = x + o * n;
		full value = mp_sum_over<full>(n, [=](long i) { return (full)row[i]; }) * scale;
		if (threadIdx.x == 0)
			y[o] = accumulate ? y[o] + value : value;
	}
}

// The sums of `tile` adjacent columns, by a block.
template <int tile> MP_DEVICE void tmpl_sum_tiles(full *__restrict__ y, const real *__restrict__ x, long outer, long n,
		long inner, full scale, bool accumulate)
{
	const long tiles = (inner + tile - 1) / tile;
	for (long block = blockIdx.x; block < outer * tiles; block += gridDim.x) {
		long o = block / tiles, first = block % tiles * tile;
		int width = inner - first < tile ? (int)(inner - first) : tile;
		full *to = y + o * inner + first;
		mp_column_sums<tile, full>(x + o * n * inner + first, n, inner, width, [=](int column, full sum) {
			full value = sum * scale;
			to[column] = accumulate ? to[column] + value : value;
		});
	}
}

static __global__ void tmpl_sum_columns_kernel(full *__restrict__ y, const real *__restrict__ x, long outer, long n,
		long inner, full scale, bool accumulate, bool wide)
{
	if (wide)
		tmpl_sum_tiles<MP_WIDE_TILE>(y, x, outer, n, inner, scale, accumulate);
	else
		tmpl_sum_tiles<MP_TILE>(y, x, outer, n, inner, scale, accumulate);
}

// y: full[outer, inner] = scale * the sum over n of x: real[outer, n, inner]; y += when accumulate.
// A sum to one scalar is the work of one block: meant for up to a million elements.
void tmpl_sum(full *y, const real *x, long outer, long n, long inner, full scale, bool accumulate, cudaStream_t stream)
{
	const bool wide = outer * (inner / MP_WIDE_TILE) >= 100; // blocks for the largest GPUs
	const int tile = wide ? MP_WIDE_TILE : MP_TILE;
	const long tiles = outer * ((inner + tile - 1) / tile);
	if (inner == 1)
		MP_LAUNCH(tmpl_sum_rows_kernel, mp_row_blocks(outer), mp_row_threads(n), stream,
				y, x, outer, n, scale, accumulate);
	else
		MP_LAUNCH(tmpl_sum_columns_kernel, mp_row_blocks(tiles), mp_column_threads(n, tile, tiles), stream,
				y, x, outer, n, inner, scale, accumulate, wide);
}
