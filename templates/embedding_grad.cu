// embedding_grad.cu: the template of the gradient of looked-up rows. Each row of the table receives the sum of what its
// id received, in the order of the positions and without atomics: positions are sorted by id first, each finding its
// place by counting; then each run of equal ids is added up by its own threads, one for each column.
#include "mp_kernel.h"

typedef float real; //@ param
typedef float full; //@ param

// order[k]: the position of the k-th smallest id; equal ids keep their order.
static __global__ void tmpl_embedding_grad_sort_kernel(int *__restrict__ order, const int *__restrict__ ids, int n)
{
	for (int i = (int)mp_first(); i < n; i += (int)mp_stride()) {
		const int id = ids[i];
		int rank = 0;
		MP_UNROLL
		for (int k = 0; k < i; k++)
			rank += ids[k] <= id;
		MP_UNROLL
		for (int k = i + 1; k < n; k++)
			rank += ids[k] < id;
		order[rank] = i;
	}
}

static __global__ void tmpl_embedding_grad_clear_kernel(full *dtable, long n)
{
	MP_UNROLL
	for (long i = mp_first(); i < n; i += mp_stride())
		dtable[i] = 0;
}

// Groups of 64 are added up apart: rounding errors grow with n / 64 + 64 instead of n.
static __global__ void tmpl_embedding_grad_kernel(full *__restrict__ dtable, const int *__restrict__ order,
		const int *__restrict__ ids, const real *__restrict__ dy, long n, long columns, long first, long rows, int lanes)
{
	for (long begin = mp_row_first(lanes); begin < n; begin += mp_row_stride(lanes)) {
		const int id = ids[order[begin]];
		const long row = id - first;
		if (row < 0 || row >= rows || (begin > 0 && ids[order[begin - 1]] == id))
			continue;
		long end = begin + 1;
		while (end < n && ids[order[end]] == id)
			end++;
		for (long c = mp_column_first(lanes); c < columns; c += mp_column_stride(lanes)) {
			full sum = 0;
			for (long group = begin; group < end; group += 64) {
				full part = 0;
				MP_UNROLL
				for (long k = group; k < end && k < group + 64; k++)
					part += (full)dy[order[k] * columns + c];
				sum += part;
			}
			dtable[row * columns + c] += sum;
		}
	}
}

// dtable: full[rows, columns], row r = sum of dy[i] over the i with ids[i] == first + r, added to what was there when
// accumulate
// order: int[n], working memory; ids: int[n], others than the rows' are passed over; dy: real[n, columns]
void tmpl_embedding_grad(full *dtable, int *order, const int *ids, const real *dy, long n, long columns, long first,
		long rows, bool accumulate, cudaStream_t stream)
{
	const int lanes = mp_lanes(columns);
	if (!accumulate)
		MP_LAUNCH(tmpl_embedding_grad_clear_kernel, mp_blocks(rows * columns), MP_THREADS, stream, dtable, rows * columns);
	MP_LAUNCH(tmpl_embedding_grad_sort_kernel, mp_blocks(n), MP_THREADS, stream, order, ids, (int)n);
	MP_LAUNCH(tmpl_embedding_grad_kernel, mp_matrix_blocks(n, lanes), MP_THREADS, stream, dtable, order, ids, dy, n,
			columns, first, rows, lanes);
}
