// cross_entropy_of_sums.cu: the template that combines what class_sums.cu found in each part of the classes.
#include "mp_kernel.h"

typedef float full; //@ param

static __global__ void tmpl_cross_entropy_of_sums_kernel(full *__restrict__ nll, full *__restrict__ lse,
		const full *__restrict__ sums, const int *__restrict__ label, long parts, long rows)
{
	for (long row = mp_first(); row < rows; row += mp_stride()) {
		full largest = -(full)INFINITY, sum = 0, target = 0;
		for (long part = 0; part < parts; part++) {
			const full top = sums[part * 3 * rows + row];
			largest = largest < top ? top : largest;
		}
		for (long part = 0; part < parts; part++) {
			const full *of = sums + part * 3 * rows + row;
			sum += of[rows] * mp_exp(of[0] - largest);
			target += of[2 * rows];
		}
		lse[row] = largest + mp_log(sum);
		nll[row] = label[row] < 0 ? 0 : lse[row] - target;
	}
}

// nll, lse: full[rows] as in cross_entropy.cu; sums: full[parts, 3, rows]; label: int[rows]
void tmpl_cross_entropy_of_sums(full *nll, full *lse, const full *sums, const int *label, long parts, long rows,
		cudaStream_t stream)
{
	MP_LAUNCH(tmpl_cross_entropy_of_sums_kernel, mp_blocks(rows), MP_THREADS, stream, nll, lse, sums, label, parts, rows);
}
