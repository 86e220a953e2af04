// clear_padding.cu: the template that makes padding zero again after an op that does not map zero to zero, so that
// sums over a padded dim stay right.
#include "mp_kernel.h"

typedef float real; //@ param

static __global__ void tmpl_clear_padding_kernel(real *y, long rows, long columns, long valid, int lanes)
{
	for (long row = mp_row_first(lanes); row < rows; row += mp_row_stride(lanes))
		for (long c = valid + mp_column_first(lanes); c < columns; c += mp_column_stride(lanes))
			y[row * columns + c] = 0;
}

// y: real[outer, piece, inner]: y[:, valid:, :] = 0, in place
void tmpl_clear_padding(real *y, long outer, long piece, long inner, long valid, cudaStream_t stream)
{
	int lanes = mp_lanes((piece - valid) * inner);
	MP_LAUNCH(tmpl_clear_padding_kernel, mp_matrix_blocks(outer, lanes), MP_THREADS, stream,
			y, outer, piece * inner, valid * inner, lanes);
}
