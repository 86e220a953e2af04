// softmax.cu: the template of softmax over the innermost dim. A block takes a row and reads it twice, for the sum
// of exponentials and for the result, the second time from cache: fewer live values than keeping a row in registers, and
// right for rows of any length.
#include "mp_kernel.h"

typedef float real; //@ param
typedef float full; //@ param

static __global__ void tmpl_softmax_kernel(real *__restrict__ y, const real *__restrict__ x, long rows, long cols)
{
	for (long row = blockIdx.x; row < rows; row += gridDim.x) {
		const real *__restrict__ from = x + row * cols;
		real *__restrict__ to = y + row * cols;
		full largest, sum = mp_sum_exp_over<full>(cols, [=](long c) { return (full)from[c]; }, &largest);
		for (long c = threadIdx.x; c < cols; c += blockDim.x)
			to[c] = mp_exp((full)from[c] - largest) / sum;
	}
}

// y: real[rows, cols] = exp(x) / the row's sum of exp(x); x: real[rows, cols]
void tmpl_softmax(real *y, const real *x, long rows, long cols, cudaStream_t stream)
{
	MP_LAUNCH(tmpl_softmax_kernel, mp_row_blocks(rows), mp_row_threads(cols), stream, y, x, rows, cols);
}
