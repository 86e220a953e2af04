// cross_entropy_and_grad.cu: the template of cross-entropy and its gradient in one, for training: a row of logits is read
// from memory once, for the sum of its exponentials, and again from shared memory and cache when the gradient takes its place.
#include "mp_kernel.h"

typedef float real; //@ param
typedef float full; //@ param

// dlogits and logits may be the same memory, hence no __restrict__ on them.
template <bool fetched> static MP_FETCH_BLOCKS __global__ void tmpl_cross_entropy_and_grad_kernel(real *dlogits, full *__restrict__ nll, const real *logits,
		const int *__restrict__ label, const full *__restrict__ dnll, long rows, long cols, long classes, bool evaluating)
{
	const full scale = *dnll;
	if (fetched)
		mp_fetch_row(logits + blockIdx.x * cols, classes);
	for (long row = blockIdx.x; row < rows; row += gridDim.x) {
		const real *from = logits + row * cols, *next = row + gridDim.x < rows ? from + gridDim.x * cols : NULL;
		real *to = dlogits + row * cols;
		const int target = label[row];
		const bool ignored = target < 0;
		const full logit = ignored ? (full)0 : (full)from[target];
		full largest, sum = fetched ? mp_sum_exp_fetched<full>(from, classes, &largest) : mp_sum_exp_row<full>(from, classes, &largest);
		const full row_lse = largest + mp_log(sum);
		if (threadIdx.x == 0)
			nll[row] = ignored ? 0 : row_lse - logit;
		if (evaluating) {
			if (fetched && next)
				mp_fetch_row(next, classes);
			continue;
		}
		const auto change = [=](auto strip, auto c, full *value) {
			for (int e = 0; e < strip; e++)
				value[e] = mp_exp_below(value[e] - row_lse);
			if (target >= c && target < c + strip)
				for (int e = 0; e < strip; e++)
					value[e] -= c + e == target ? 1 : 0;
			for (int e = 0; e < strip; e++)
				value[e] = ignored ? 0 : value[e] * scale;
		};
		if (fetched)
			mp_change_fetched<full>(to, from, classes, next, change);
		else
			mp_change_row<full>(to, from, classes, change);
		for (long c = classes + threadIdx.x; c < cols; c += blockDim.x)
			to[c] = (full)0;
	}
}

// nll: full[rows] = log(sum of exp(logits) over the row's first `classes`) - logits[row, label], 0 where label < 0
// dlogits: real[rows, cols] = (exp(logits - that logarithm) - onehot(label)) * dnll, 0 where label < 0 and from column `classes`
// on; it may be logits itself. Nothing is written there while evaluating
// logits: real[rows, cols]; label: int[rows], < classes <= cols; dnll: full, one for all rows
void tmpl_cross_entropy_and_grad(real *dlogits, full *nll, const real *logits, const int *label, const full *dnll, long rows,
		long cols, long classes, bool evaluating, cudaStream_t stream)
{
	const int shared = mp_fetch_bytes(dlogits, logits, classes);
	if (shared)
		MP_LAUNCH_SHARED(tmpl_cross_entropy_and_grad_kernel<true>, mp_cached_blocks(rows), MP_FETCH_THREADS, shared, stream,
				dlogits, nll, logits, label, dnll, rows, cols, classes, evaluating);
	else
		MP_LAUNCH(tmpl_cross_entropy_and_grad_kernel<false>, mp_cached_blocks(rows), mp_span_threads<real>(cols, 512), stream,
				dlogits, nll, logits, label, dnll, rows, cols, classes, evaluating);
}
