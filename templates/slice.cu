// slice.cu: the template of Replicate -> Shard(dim): one rank's equal piece of a dim, zeros where the dim ends early.
#include "mp_kernel.h"

typedef float real; //@ param

// Seen as a matrix: a row for each outer index, `valid` elements of it to copy and the rest of `columns` to clear.
static __global__ void tmpl_slice_kernel(real *__restrict__ y, const real *__restrict__ x, long rows, long columns,
		long x_columns, long start, long valid, int lanes)
{
	for (long row = mp_row_first(lanes); row < rows; row += mp_row_stride(lanes)) {
		const real *__restrict__ from = x + row * x_columns + start;
		real *__restrict__ to = y + row * columns;
		long c = mp_column_first(lanes);
		for (; c < valid; c += mp_column_stride(lanes))
			to[c] = from[c];
		for (; c < columns; c += mp_column_stride(lanes))
			to[c] = 0;
	}
}

// y: real[outer, piece, inner] = x[:, index * piece + p, :] of x: real[outer, extent, inner], 0 beyond extent
void tmpl_slice(real *y, const real *x, long outer, long extent, long piece, long inner, int index, cudaStream_t stream)
{
	long first = index * piece < extent ? index * piece : extent;
	long valid = extent - first < piece ? extent - first : piece;
	int lanes = mp_lanes(piece * inner);
	MP_LAUNCH(tmpl_slice_kernel, mp_matrix_blocks(outer, lanes), MP_THREADS, stream,
			y, x, outer, piece * inner, extent * inner, first * inner, valid * inner, lanes);
}
