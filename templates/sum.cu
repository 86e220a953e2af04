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

// Of tiles of lanes * strip columns, a block's each.
template <int strip> MP_DEVICE void tmpl_sum_tiles(full *__restrict__ y, const real *__restrict__ x, long outer, long n,
		long inner, full scale, bool accumulate, int lanes)
{
	const long tile = lanes * strip, tiles = (inner + tile - 1) / tile;
	for (long block = blockIdx.x; block < outer * tiles; block += gridDim.x) {
		const long o = block / tiles, first = block % tiles * tile;
		full *to = y + o * inner + first;
		mp_column_sums<strip, full>(x + o * n * inner + first, n, inner, inner - first, lanes, [=](int column, full sum) {
			const full value = sum * scale;
			to[column] = accumulate ? to[column] + value : value;
		});
	}
}

static MP_SUM_BLOCKS __global__ void tmpl_sum_columns_kernel(full *__restrict__ y, const real *__restrict__ x, long outer,
		long n, long inner, full scale, bool accumulate, int lanes, bool wide)
{
	if (wide)
		tmpl_sum_tiles<MP_STRIP(real)>(y, x, outer, n, inner, scale, accumulate, lanes);
	else
		tmpl_sum_tiles<1>(y, x, outer, n, inner, scale, accumulate, lanes);
}

// y: full[outer, inner] = scale * the sum over n of x: real[outer, n, inner]; y += when accumulate.
// A sum to one scalar is the work of one block: meant for up to a million elements.
void tmpl_sum(full *y, const real *x, long outer, long n, long inner, full scale, bool accumulate, cudaStream_t stream)
{
	const bool wide = mp_wide<real>(inner, x);
	const int strip = wide ? MP_STRIP(real) : 1, lanes = mp_sum_lanes((inner + strip - 1) / strip, outer);
	if (inner == 1)
		MP_LAUNCH(tmpl_sum_rows_kernel, mp_row_blocks(outer), mp_row_threads(n), stream,
				y, x, outer, n, scale, accumulate);
	else
		MP_LAUNCH(tmpl_sum_columns_kernel, mp_row_blocks(outer * ((inner + lanes * strip - 1) / (lanes * strip))),
				mp_sum_threads(n, lanes), stream, y, x, outer, n, inner, scale, accumulate, lanes, wide);
}
