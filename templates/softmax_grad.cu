// softmax_grad.cu: the template of softmax's gradient, from its result: dx = y * (dy - sum of dy * y over the row).
#include "mp_kernel.h"

typedef float real; //@ param
typedef float full; //@ param

static __global__ void tmpl_softmax_grad_kernel(real *__restrict__ dx, const real *__restrict__ dy,
		const real *__restrict__ y, long rows, long cols)
{
	for (long row = blockIdx.x; row < rows; row += gridDim.x) {
		const real *__restrict__ dy_row = dy + row * cols, *__restrict__ y_row = y + row * cols;
		real *__restrict__ to = dx + row * cols;
		full dot = mp_sum_over<full>(cols, [=](long c) { return (full)dy_row[c] * (full)y_row[c]; });
		for (long c = threadIdx.x; c < cols; c += blockDim.x)
			to[c] = (full)y_row[c] * ((full)dy_row[c] - dot);
	}
}

// dx: real[rows, cols] = y * (dy - the row's sum of dy * y); dy, y: real[rows, cols], y the result of softmax
void tmpl_softmax_grad(real *dx, const real *dy, const real *y, long rows, long cols, cudaStream_t stream)
{
	MP_LAUNCH(tmpl_softmax_grad_kernel, mp_row_blocks(rows), mp_row_threads(cols), stream, dx, dy, y, rows, cols);
}
