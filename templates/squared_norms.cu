// squared_norms.cu: the template of the sums of squares of many gradients at once, in two launches however many there are. A table
// says where they lie and of which type each is (mp_table.h). A block sums one chunk, so that a gradient's sum is the same whichever
// others there are.
#include "mp_kernel.h"

typedef float real; //@ param
typedef float full; //@ param

// Strip by strip, then what is left behind the last.
template <class element> MP_DEVICE full tmpl_squared_norms_part(const element *__restrict__ x, long n)
{
	constexpr int width = MP_STRIP(element);
	const long strips = n / width;
	return mp_sum_over<full>(strips + n % width, [=](long i) {
		full sum = 0;
		if (i >= strips) {
			const full value = x[strips * width + i - strips];
			return value * value;
		}
		const auto strip = mp_load<width>(x + i * width);
		for (int e = 0; e < width; e++)
			sum += (full)strip[e] * (full)strip[e];
		return sum;
	});
}

static __global__ void tmpl_squared_norms_chunks(full *__restrict__ partial, const int *__restrict__ table,
		char *__restrict__ arena, long rows, long chunks, long chunk)
{
	for (long block = blockIdx.x; block < chunks; block += gridDim.x) {
		const int *row = mp_table_row(table, rows, MP_CHUNK, block);
		long index = block - row[MP_CHUNK], n = index < row[MP_CHUNKS] - 1 ? chunk : index < row[MP_CHUNKS] ? row[MP_REST] : 0;
		const full sum = mp_with_gradient<real, full>(arena, row, index * chunk, [=](const auto *x) { return tmpl_squared_norms_part(x, n); });
		if (threadIdx.x == 0)
			partial[block] = sum;
	}
}

static __global__ void tmpl_squared_norms_kernel(full *__restrict__ y, const full *__restrict__ partial,
		const int *__restrict__ table, long rows, long elements, int behind)
{
	for (long element = blockIdx.x; element < elements; element += gridDim.x) {
		const int *row = mp_table_row(table, rows, MP_PARAMETER, element);
		const full *sums = partial + row[MP_CHUNK];
		long n = row[MP_PARAMETER] == element && !(behind & ~row[MP_SPLIT]) ? row[MP_CHUNKS] : 0;
		full sum = mp_sum_over<full>(n, [=](long i) { return sums[i]; });
		if (threadIdx.x == 0)
			y[element] = sum;
	}
}

// y: full[elements] = the sum of squares of the gradient that the table has for the element; 0 where it has none, and where
// this rank does not count: behind has a bit for each axis on which it is not the first, and of an axis whose ranks have the same the
// first counts. partial: full[chunks], table: int[rows, MP_COLUMNS].
void tmpl_squared_norms(full *y, full *partial, const int *table, char *arena, long rows, long chunks,
		long elements, long chunk, int behind, cudaStream_t stream)
{
	MP_LAUNCH(tmpl_squared_norms_chunks, mp_row_blocks(chunks), mp_row_threads(chunk / 16), stream, partial, table, arena,
			rows, chunks, chunk);
	MP_LAUNCH(tmpl_squared_norms_kernel, mp_row_blocks(elements), mp_row_threads(1024), stream, y, partial, table, rows,
			elements, behind);
}
