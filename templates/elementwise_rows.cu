// elementwise_rows.cu: the template of fused element-wise ops with broadcasts. The result is seen as [rows, columns],
// with columns chosen so that every operand is either contiguous or constant along a row; only then can the host
// vectorise the inner loop, and no element costs a division. The body takes a strip of a row, as in elementwise.cu, from the
// result's element i on. Operands are strips from
//   x + i                 of the result's shape
//   x + column            broadcast over rows: a bias
//   x + f(row) + column   f without column, such as row / n * columns: expand [outer, columns] -> [outer, n, columns]
// or one element for the whole row:
//   x[row]                broadcast over columns: expand [rows] -> [rows, columns]
//   x[f(row)]             such as row % n
//   x[0]                  a scalar
// A buffer that is updated in place is passed once, as an output that the body also reads.
//
// Slots: those of elementwise.cu; parameters may hold further extents (long n) for f.
#include "mp_kernel.h"

typedef float real; //@ param

template <int width> MP_DEVICE void tmpl_elementwise_rows_strips(
	//@ slot kernel_parameters
	real *__restrict__ y0, const real *__restrict__ x0, const real *__restrict__ x1,
	//@ end
	long rows, long columns, int lanes)
{
	MP_MATRIX(row, rows, strip, columns / width, lanes) {
		const long column = strip * width, i = row * columns + column;
		//@ slot body
		const auto in0 = mp_load<width>(x0 + i), in1 = mp_load<width>(x1 + column);
		real out0[width];
		MP_EACH_OF_STRIP(e, width) {
			float t0 = mp_add((float)in0[e], (float)in1[e]);
			out0[e] = mp_relu(t0);
		}
		mp_store<width>(y0 + i, out0, width);
		//@ end
	}
}

static __global__ void tmpl_elementwise_rows_kernel(
	//@ slot kernel_parameters
	real *__restrict__ y0, const real *__restrict__ x0, const real *__restrict__ x1,
	//@ end
	long rows, long columns, int lanes, bool wide)
{
	if (wide)
		tmpl_elementwise_rows_strips<MP_STRIP(real)>(
			//@ slot arguments
			y0, x0, x1,
			//@ end
			rows, columns, lanes);
	else
		tmpl_elementwise_rows_strips<1>(
			//@ slot arguments
			y0, x0, x1,
			//@ end
			rows, columns, lanes);
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
	const bool wide = mp_wide<real>(columns,
		//@ slot addresses
		y0, x0, x1
		//@ end
	);
	const int lanes = mp_lanes(wide ? columns / MP_STRIP(real) : columns);
	MP_LAUNCH(tmpl_elementwise_rows_kernel, mp_matrix_blocks(rows, lanes), MP_THREADS, stream,
		//@ slot arguments
		y0, x0, x1,
		//@ end
		rows, columns, lanes, wide);
}
