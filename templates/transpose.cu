// transpose.cu: the template of the exchange of two dims. Rows of what lies inside of both are copied whole.
#include "mp_kernel.h"

typedef float real; //@ param

static __global__ void tmpl_transpose_kernel(real *__restrict__ y, const real *__restrict__ x, long rows, long first,
		long between, long second, long inner, int lanes)
{
	for (long row = mp_row_first(lanes); row < rows; row += mp_row_stride(lanes)) {
		const long p = row % first, m = row / first % between, q = row / first / between % second;
		const long outer = row / first / between / second;
		const real *from = x + (((outer * first + p) * between + m) * second + q) * inner;
		real *to = y + row * inner;
		for (long i = mp_column_first(lanes); i < inner; i += mp_column_stride(lanes))
			to[i] = from[i];
	}
}

// y: real[outer, second, between, first, inner] = x: real[outer, first, between, second, inner] with the dims first and
// second exchanged
void tmpl_transpose(real *y, const real *x, long outer, long first, long between, long second, long inner,
		cudaStream_t stream)
{
	const long rows = outer * second * between * first;
	const int lanes = mp_lanes(inner);
	MP_LAUNCH(tmpl_transpose_kernel, mp_matrix_blocks(rows, lanes), MP_THREADS, stream, y, x, rows, first, between,
			second, inner, lanes);
}
