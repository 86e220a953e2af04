// unpack.cu: the template that puts gathered pieces of an inner dim back in their places, the inverse of pack.cu: NCCL
// gathers along the outermost dim only. Padding is dropped.
#include "mp_kernel.h"

typedef float real; //@ param

// Rows are (piece number, outer index) pairs of x.
static __global__ void tmpl_unpack_kernel(real *__restrict__ y, const real *__restrict__ x, long outer, long extent,
		long piece, long inner, long rows, int lanes)
{
	for (long row = mp_row_first(lanes); row < rows; row += mp_row_stride(lanes)) {
		long start = row / outer * piece;
		const real *__restrict__ from = x + row * piece * inner;
		real *__restrict__ to = y + (row % outer * extent + start) * inner;
		long left = extent - start, valid = (left < 0 ? 0 : left < piece ? left : piece) * inner;
		for (long c = mp_column_first(lanes); c < valid; c += mp_column_stride(lanes))
			to[c] = from[c];
	}
}

// y: real[outer, extent, inner] from x: real[n, outer, piece, inner], y[:, k * piece + p, :] = x[k, :, p, :];
// n * piece >= extent, what lies beyond extent is dropped
void tmpl_unpack(real *y, const real *x, long outer, long extent, long piece, long inner, int n, cudaStream_t stream)
{
	int lanes = mp_lanes(piece * inner);
	MP_LAUNCH(tmpl_unpack_kernel, mp_matrix_blocks(n * outer, lanes), MP_THREADS, stream,
			y, x, outer, extent, piece, inner, n * outer, lanes);
}
