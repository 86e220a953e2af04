// embedding.cu: the template that looks up rows of a table, or of the shard of a table that begins at row `first`.
#include "mp_kernel.h"

typedef float real; //@ param
typedef float full; //@ param

static __global__ void tmpl_embedding_kernel(real *__restrict__ y, const int *__restrict__ ids,
		const full *__restrict__ table, long n, long columns, long first, long rows, int lanes)
{
	MP_MATRIX (i, n, c, columns, lanes) {
		const long row = ids[i] - first;
		const full value = row >= 0 && row < rows ? table[row * columns + c] : (full)0;
		y[i * columns + c] = value;
	}
}

// y: real[n, columns] = row ids[i] - first of table: full[rows, columns], zeros where there is no such row; ids: int[n]
void tmpl_embedding(real *y, const int *ids, const full *table, long n, long columns, long first, long rows,
		cudaStream_t stream)
{
	const int lanes = mp_lanes(columns);
	MP_LAUNCH(tmpl_embedding_kernel, mp_matrix_blocks(n, lanes), MP_THREADS, stream, y, ids, table, n, columns, first,
			rows, lanes);
}
