// cross_entropy.cu: the template of softmax and negative log-likelihood in one. It keeps the logarithm of each row's
// sum of exponentials, so that the gradient needs no probabilities in memory.
#include "mp_kernel.h"

typedef float real; //@ param
typedef float full; //@ param

static __global__ void tmpl_cross_entropy_kernel(full *__restrict__ nll, full *__restrict__ lse,
		const real *__restrict__ logits, const int *__restrict__ label,
		long rows, long cols, long classes)
{
	for (long row = blockIdx.x; row < rows; row += gridDim.x) {
		const real *from = logits + row * cols;
		full largest, sum = mp_sum_exp_row<full>(from, classes, &largest);
		if (threadIdx.x == 0) {
			lse[row] = largest + mp_log(sum);
			nll[row] = label[row] < 0 ? 0 : lse[row] - (full)from[label[row]];
		}
	}
}

// nll: full[rows] = lse - logits[row, label], 0 where label < 0
// lse: full[rows] = log(sum of exp(logits) over the row's first `classes`); logits: real[rows, cols]; label: int[rows],
// < classes <= cols
void tmpl_cross_entropy(full *nll, full *lse, const real *logits, const int *label, long rows, long cols, long classes,
		cudaStream_t stream)
{
	MP_LAUNCH(tmpl_cross_entropy_kernel, mp_row_blocks(rows), mp_span_threads<real>(cols, 256), stream,
			nll, lse, logits, label, rows, cols, classes);
}
