// elementwise_rows.cu: the template of fused element-wise ops with broadcasts. The result is seen as [rows, columns],
// with columns chosen so that every operand is either contiguous or constant along a row; only then can the host
// vectorise the inner loop, and no element costs a division. Operands are
//   x[i]                  of the result's shape
//   x[column]             broadcast over rows: a bias
//   x[row]                broadcast over columns: expand [rows] -> [rows, columns]
//   x[f(row) + column]    f without column, such as row / n * columns: expand [outer, columns] -> [outer, n, columns]
//   x[f(row)]             such as row % n
//   x[0]                  a scalar
// A buffer that is updated in place is passed once, as an output that the body also reads.
//
// Slots: those of elementwise.cu; parameters may hold further extents (long n) for f.
#include "mp_kernel.h"

typedef float real; //@ param

static __global__ void tmpl_elementwise_rows_kernel(
	//@ slot kernel_parameters
	real *__restrict__ y0, const real *__restrict__ x0, const real *__restrict__ x1,
	//@ end
	long rows, long columns, int lanes)
{
	MP_MATRIX(row, rows, column, columns, lanes) {
		long i = row * columns + column;
		//@ slot body
		real t0 = mp_add(x0[i], x1[column]);
		y0[i] = mp_relu(t0);
		//@ end
	}
}

//@ slot comment
// y0: real[rows, columns] = relu(add(x0, x1)); x0: real[rows, columns]; x1: real[columns]
//@ end
void tmpl_elementwise_rows(
	//@ slot parameters
	real *y0, const real *x0, const real *x1,
	//@ end
	long rows, long columns, cudaStream_t stream)
{
	int lanes = mp_lanes(columns);
	MP_LAUNCH(tmpl_elementwise_rows_kernel, mp_matrix_blocks(rows, lanes), MP_THREADS, stream,
		//@ slot arguments
		y0, x0, x1,
		//@ end
		rows, columns, lanes);
}
