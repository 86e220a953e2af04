// correct_of_best.cu: the template that marks right predictions from what class_best.cu found in each part of the classes.
#include "mp_kernel.h"

typedef float full; //@ param

static __global__ void tmpl_correct_of_best_kernel(full *__restrict__ hit, const full *__restrict__ best,
		const int *__restrict__ label, long parts, long rows)
{
	for (long row = mp_first(); row < rows; row += mp_stride()) {
		full largest = -(full)INFINITY, at = -1;
		for (long part = 0; part < parts; part++) {
			const full *of = best + part * 2 * rows + row;
			const bool better = of[rows] >= 0 && (at < 0 || of[0] > largest); // parts are in the order of the classes
			largest = better ? of[0] : largest;
			at = better ? of[rows] : at;
		}
		hit[row] = at >= 0 && at == (full)label[row] ? 1 : 0;
	}
}

// hit: full[rows] = 1 where the class with the largest logit is label, else 0; best: full[parts, 2, rows]; label: int[rows]
void tmpl_correct_of_best(full *hit, const full *best, const int *label, long parts, long rows, cudaStream_t stream)
{
	MP_LAUNCH(tmpl_correct_of_best_kernel, mp_blocks(rows), MP_THREADS, stream, hit, best, label, parts, rows);
}
