// correct.cu: the template that marks right predictions, the rows whose largest logit is the label's. The lowest index
// wins ties, so the answer depends neither on the grid nor on how a row is split.
#include "mp_kernel.h"

typedef float real; //@ param
typedef float full; //@ param

static __global__ void tmpl_correct_kernel(full *__restrict__ hit, const real *__restrict__ logits,
		const int *__restrict__ label, long rows, long cols, long classes)
{
	for (long row = blockIdx.x; row < rows; row += gridDim.x) {
		const real *from = logits + row * cols;
		long best = mp_argmax_over<full>(classes, [=](long c) { return (full)from[c]; });
		if (threadIdx.x == 0)
			hit[row] = best == label[row] ? 1 : 0;
	}
}

// hit: full[rows] = 1 where the index of the largest of the row's first `classes` logits is label, else 0 (so 0 where
// label < 0); logits: real[rows, cols]; label: int[rows]
void tmpl_correct(full *hit, const real *logits, const int *label, long rows, long cols, long classes,
		cudaStream_t stream)
{
	MP_LAUNCH(tmpl_correct_kernel, mp_row_blocks(rows), mp_row_threads(cols), stream, hit, logits, label, rows, cols,
			classes);
}
