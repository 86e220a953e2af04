// permute.cu: the template of the change between channels first and channels last: a batch of matrices, transposed.
#include "mp_kernel.h"

typedef float real; //@ param

static __global__ void tmpl_permute_kernel(real *__restrict__ y, const real *__restrict__ x, long batch, long rows,
		long columns)
{
	const long down = (rows + MP_SQUARE - 1) / MP_SQUARE, across = (columns + MP_SQUARE - 1) / MP_SQUARE;
	for (long tile = blockIdx.x; tile < batch * down * across; tile += gridDim.x) {
		const long matrix = tile / across / down, row = tile / across % down, column = tile % across;
		const long at = matrix * rows * columns;
		mp_transpose_tile(y + at, x + at, rows, columns, row * MP_SQUARE, column * MP_SQUARE);
	}
}

// Few rows or few columns, such as the colours of an image, would leave most of a tile empty: a thread goes along the
// long dim and takes all of the short one.
static __global__ void tmpl_permute_narrow_kernel(real *__restrict__ y, const real *__restrict__ x, long batch, long rows,
		long columns)
{
	const bool few_rows = rows < columns;
	const long length = few_rows ? columns : rows, width = few_rows ? rows : columns;
	const long x_along = few_rows ? 1 : columns, x_across = few_rows ? columns : 1;
	const long y_along = few_rows ? rows : 1, y_across = few_rows ? 1 : rows;
	for (long i = mp_first(); i < batch * length; i += mp_stride()) {
		const long matrix = i / length, place = i - matrix * length, at = matrix * length * width;
		MP_UNROLL
		for (long k = 0; k < width; k++)
			y[at + place * y_along + k * y_across] = x[at + place * x_along + k * x_across];
	}
}

// y: real[batch, columns, rows] = x: real[batch, rows, columns] with rows and columns exchanged
void tmpl_permute(real *y, const real *x, long batch, long rows, long columns, cudaStream_t stream)
{
	const long tiles = batch * ((rows + MP_SQUARE - 1) / MP_SQUARE) * ((columns + MP_SQUARE - 1) / MP_SQUARE);
	if (rows < MP_NARROW_MATRIX || columns < MP_NARROW_MATRIX)
		MP_LAUNCH(tmpl_permute_narrow_kernel, mp_blocks(batch * (rows < columns ? columns : rows)), MP_THREADS, stream,
				y, x, batch, rows, columns);
	else
		MP_LAUNCH(tmpl_permute_kernel, mp_row_blocks(tiles), 256, stream, y, x, batch, rows, columns);
}
