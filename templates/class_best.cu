// class_best.cu: the template of the largest logit among some of the classes, and where it is.
#include "mp_kernel.h"

typedef float real; //@ param
typedef float full; //@ param

static __global__ void tmpl_class_best_kernel(full *__restrict__ best, const real *__restrict__ logits, long rows,
		long cols, long first, long classes)
{
	for (long row = blockIdx.x; row < rows; row += gridDim.x) {
		const real *from = logits + row * cols;
		const long at = mp_argmax_over<full>(classes, [=](long c) { return (full)from[c]; });
		if (threadIdx.x == 0) {
			best[row] = at < classes ? (full)from[at] : -(full)INFINITY;
			best[rows + row] = at < classes ? (full)(first + at) : -1;
		}
	}
}

// best: full[2, rows]: the largest of the row's first `classes` logits and its class, the lowest of several; -infinity and
// -1 where there is none. Classes below 2^24 are exact in f32. logits: real[rows, cols], the classes from `first` on;
// label is not read
void tmpl_class_best(full *best, const real *logits, const int *label, long rows, long cols, long first, long classes,
		cudaStream_t stream)
{
	(void)label;
	MP_LAUNCH(tmpl_class_best_kernel, mp_row_blocks(rows), mp_row_threads(cols), stream, best, logits, rows, cols, first,
			classes);
}
