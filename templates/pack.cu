// pack.cu: the template that lays the n pieces of an inner dim one after another, because NCCL scatters the outermost
// dim only. A dim that n does not divide is padded with zeros to equal pieces.
#include "mp_kernel.h"

typedef float real; //@ param

// Rows are (piece number, outer index) pairs of y.
static __global__ void tmpl_pack_kernel(real *__restrict__ y, const real *__restrict__ x, long outer, long extent,
		long piece, long inner, long rows, int lanes)
{
	for (long row = mp_row_first(lanes); row < rows; row += mp_row_stride(lanes)) {
		long start = row / outer * piece;
		const real *__restrict__ from = x + (row % outer * extent + start) * inner;
		real *__restrict__ to = y + row * piece * inner;
		long left = extent - start, valid = (left < 0 ? 0 : left < piece ? left : piece) * inner;
		long c = mp_column_first(lanes);
		for (; c < valid; c += mp_column_stride(lanes))
			to[c] = from[c];
		for (; c < piece * inner; c += mp_column_stride(lanes))
			to[c] = 0;
	}
}

// y: real[n, outer, piece, inner] from x: real[outer, extent, inner], y[k, :, p, :] = x[:, k * piece + p, :], 0 beyond
// extent; n * piece >= extent
void tmpl_pack(real *y, const real *x, long outer, long extent, long piece, long inner, int n, cudaStream_t stream)
{
	int lanes = mp_lanes(piece * inner);
	MP_LAUNCH(tmpl_pack_kernel, mp_matrix_blocks(n * outer, lanes), MP_THREADS, stream,
			y, x, outer, extent, piece, inner, n * outer, lanes);
}
