// cross_entropy_grad.cu: the template of cross-entropy's gradient. An element of the result needs its own logit and
// three numbers of its row, so dlogits may take the memory of logits, usually the largest tensor of a model, and a device
// that has some of the classes needs nothing of the others.
#include "mp_kernel.h"

typedef float real; //@ param
typedef float full; //@ param

// dlogits and logits may be the same memory, hence no __restrict__ on them.
static __global__ void tmpl_cross_entropy_grad_kernel(real *dlogits, const real *logits,
		const int *__restrict__ label, const full *__restrict__ lse,
		const full *__restrict__ dnll, long rows, long cols, long first, long classes, int step)
{
	for (long row = blockIdx.x; row < rows; row += gridDim.x) {
		real *to = dlogits + row * cols;
		const bool ignored = label[row] < 0;
		const long target = label[row] - first;
		const full row_lse = lse[row], scale = dnll[row * step];
		mp_change_row<full>(to, logits + row * cols, classes, [=](auto strip, long c, full *value) {
			for (int e = 0; e < strip; e++)
				value[e] = mp_exp_below(value[e] - row_lse);
			if (target >= c && target < c + strip)
				for (int e = 0; e < strip; e++)
					value[e] -= c + e == target ? 1 : 0;
			for (int e = 0; e < strip; e++)
				value[e] = ignored ? 0 : value[e] * scale;
		});
		for (long c = classes + threadIdx.x; c < cols; c += blockDim.x)
			to[c] = (full)0;
	}
}

// dlogits: real[rows, cols] = (exp(logits - lse) - onehot(label)) * dnll, 0 where label < 0; it may be logits itself
// logits: real[rows, cols], the classes from `first` on; from column `classes` on there are none, and zeros result
// label: int[rows]; lse: full[rows]; dnll: full[rows], or one for all rows where step is 0 instead of 1
void tmpl_cross_entropy_grad(real *dlogits, const real *logits, const int *label, const full *lse, const full *dnll,
		long rows, long cols, long first, long classes, int step, cudaStream_t stream)
{
	MP_LAUNCH(tmpl_cross_entropy_grad_kernel, mp_row_blocks(rows), mp_span_threads<real>(cols, 256), stream,
			dlogits, logits, label, lse, dnll, rows, cols, first, classes, step);
}
