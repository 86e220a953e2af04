// squared_norms.cu: the template of the sums of squares of many tensors at once, in two launches however many there are.
//
// Where the tensors lie is a table of int with six columns: offset from `arena` / 256 bytes, element of the result, first chunk, number of
// chunks, elements of the last chunk, and whether each rank of an axis has a part of its own. A block sums one
// chunk, whose bounds are counted from its tensor's first element: neither the other tensors nor the address change a bit.
#include "mp_kernel.h"

typedef float real; //@ param

// The last row whose value in `column` is at most `value`; the column rises.
MP_DEVICE const int *tmpl_squared_norms_row(const int *table, long rows, int column, long value)
{
	long low = 0, high = rows;
	while (high - low > 1) {
		long middle = (low + high) / 2;
		if (table[middle * 6 + column] <= value)
			low = middle;
		else
			high = middle;
	}
	return table + low * 6;
}

static __global__ void tmpl_squared_norms_chunks(real *__restrict__ partial, const int *__restrict__ table,
		const char *__restrict__ arena, long rows, long chunks, long chunk)
{
	for (long block = blockIdx.x; block < chunks; block += gridDim.x) {
		const int *row = tmpl_squared_norms_row(table, rows, 2, block);
		long index = block - row[2], n = index < row[3] - 1 ? chunk : index < row[3] ? row[4] : 0;
		const real *x = (const real *)(arena + row[0] * 256L) + index * chunk;
		real sum = mp_sum_over<real>(n, [=](long i) { return x[i] * x[i]; });
		if (threadIdx.x == 0)
			partial[block] = sum;
	}
}

static __global__ void tmpl_squared_norms_kernel(real *__restrict__ y, const real *__restrict__ partial,
		const int *__restrict__ table, long rows, long elements, bool counts)
{
	for (long element = blockIdx.x; element < elements; element += gridDim.x) {
		const int *row = tmpl_squared_norms_row(table, rows, 1, element);
		const real *sums = partial + row[2];
		long n = row[1] == element && (counts || row[5]) ? row[3] : 0;
		real sum = mp_sum_over<real>(n, [=](long i) { return sums[i]; });
		if (threadIdx.x == 0)
			y[element] = sum;
	}
}

// y: real[elements] = the sum of squares of the tensor that the table has for the element; 0 where it has none, and where
// the ranks of the axis have the whole tensor and this one does not count. partial: real[chunks], table: int[rows, 6].
void tmpl_squared_norms(real *y, real *partial, const int *table, const char *arena, long rows, long chunks,
		long elements, long chunk, bool counts, cudaStream_t stream)
{
	MP_LAUNCH(tmpl_squared_norms_chunks, mp_row_blocks(chunks), mp_row_threads(chunk / 16), stream, partial, table, arena,
			rows, chunks, chunk);
	MP_LAUNCH(tmpl_squared_norms_kernel, mp_row_blocks(elements), mp_row_threads(1024), stream, y, partial, table, rows,
			elements, counts);
}
