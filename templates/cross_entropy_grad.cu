// cross_entropy_grad.cu: the template of cross-entropy's gradient. An element of the result needs its own logit and
// three numbers of its row, so dlogits may take the memory of logits, usually the largest tensor of a model, and a device
// that has some of the classes needs nothing of the others.
#include "mp_kernel.h"

typedef float real; //@ param
typedef float full; //@ param

// dlogits and logits may be the same memory, hence no __restrict__ on them.
static __global__ void tmpl_cross_entropy_grad_kernel(real *dlogits, const real *logits,
		const int *__restrict__ label, const full *__restrict__ lse,
		const full *__restrict__ dnll, long rows, long cols, long first, long classes, int lanes)
{
	for (long row = mp_row_first(lanes); row < rows; row += mp_row_stride(lanes)) {
		const real *from = logits + row * cols;
		real *to = dlogits + row * cols;
		const bool ignored = label[row] < 0;
		const long target = label[row] - first;
		const full row_lse = lse[row], scale = dnll[row];
		for (long c = mp_column_first(lanes); c < cols; c += mp_column_stride(lanes)) {
			const full onehot = c == target ? 1 : 0;
			const full value = (mp_exp((full)from[c] - row_lse) - onehot) * scale;
			to[c] = ignored || c >= classes ? (full)0 : value;
		}
	}
}

// dlogits: real[rows, cols] = (exp(logits - lse) - onehot(label)) * dnll, 0 where label < 0; it may be logits itself
// logits: real[rows, cols], the classes from `first` on; from column `classes` on there are none, and zeros result
// label: int[rows]; lse, dnll: full[rows]
void tmpl_cross_entropy_grad(real *dlogits, const real *logits, const int *label, const full *lse, const full *dnll,
		long rows, long cols, long first, long classes, cudaStream_t stream)
{
	int lanes = mp_lanes(cols);
	MP_LAUNCH(tmpl_cross_entropy_grad_kernel, mp_matrix_blocks(rows, lanes), MP_THREADS, stream,
			dlogits, logits, label, lse, dnll, rows, cols, first, classes, lanes);
}
