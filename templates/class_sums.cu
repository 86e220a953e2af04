// class_sums.cu: the template of what cross-entropy needs of some of the classes: enough to combine it with that of the
// others (cross_entropy_of_sums.cu).
#include "mp_kernel.h"

typedef float real; //@ param
typedef float full; //@ param

static __global__ void tmpl_class_sums_kernel(full *__restrict__ sums, const real *__restrict__ logits,
		const int *__restrict__ label, long rows, long cols, long first, long classes)
{
	for (long row = blockIdx.x; row < rows; row += gridDim.x) {
		const real *from = logits + row * cols;
		const long target = label[row] - first;
		full largest, sum = mp_sum_exp_row<full>(from, classes, &largest);
		if (threadIdx.x == 0) {
			sums[row] = largest;
			sums[rows + row] = classes > 0 ? sum : 0;
			sums[2 * rows + row] = label[row] >= 0 && target >= 0 && target < classes ? (full)from[target] : 0;
		}
	}
}

// sums: full[3, rows]: the largest of the row's first `classes` logits (-infinity for none), the sum of exp(logit - largest),
// and the logit of the label where it is among them, else 0
// logits: real[rows, cols], the classes from `first` on; label: int[rows]
void tmpl_class_sums(full *sums, const real *logits, const int *label, long rows, long cols, long first, long classes,
		cudaStream_t stream)
{
	MP_LAUNCH(tmpl_class_sums_kernel, mp_row_blocks(rows), mp_span_threads<real>(cols, 256), stream, sums, logits, label, rows, cols,
			first, classes);
}
