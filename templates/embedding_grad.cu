// embedding_grad.cu: the template of the gradient of looked-up rows. Each row of the table receives the sum of what its
// id received, in the order of the positions and without atomics on what is added: the positions are sorted by id first. Runs of
// equal ids may be as long as all positions, so they are cut where a multiple of 64 positions lies: what such a piece of a run
// adds is summed by itself, and then the pieces. Every row of the table is written once, zeros where no id asks for it; of a table that is
// added to, only the rows that some do.
#include "mp_kernel.h"

typedef float real; //@ param
typedef float full; //@ param

// Row of the table that position i looks up; `rows` for what lies elsewhere.
MP_DEVICE int tmpl_embedding_grad_row(const int *ids, long i, long first, long rows)
{
	const long row = ids[i] - first;
	return row < 0 || row >= rows ? (int)rows : (int)row;
}

// from: positions in the order so far; NULL: their own.
static MP_SORT_BLOCKS __global__ void tmpl_embedding_grad_count_kernel(int *__restrict__ counts, const int *__restrict__ from,
		const int *__restrict__ ids, long n, long first, long rows, int shift)
{
	for (long chunk = blockIdx.x; chunk < MP_SORT_CHUNKS; chunk += gridDim.x)
		mp_count_digits(counts + chunk * MP_SORT_DIGITS, n * chunk / MP_SORT_CHUNKS, n * (chunk + 1) / MP_SORT_CHUNKS, [=](long i) {
			return tmpl_embedding_grad_row(ids, from ? from[i] : i, first, rows) >> shift & (MP_SORT_DIGITS - 1);
		});
}

static MP_SORT_BLOCKS __global__ void tmpl_embedding_grad_place_kernel(int *__restrict__ to, int *__restrict__ sorted,
		const int *__restrict__ counts, const int *__restrict__ from, const int *__restrict__ ids, long n, long first, long rows,
		int shift)
{
	for (long chunk = blockIdx.x; chunk < MP_SORT_CHUNKS; chunk += gridDim.x)
		mp_place_digits(counts, chunk, n * chunk / MP_SORT_CHUNKS, n * (chunk + 1) / MP_SORT_CHUNKS, [=](long i) {
			return tmpl_embedding_grad_row(ids, from ? from[i] : i, first, rows) >> shift & (MP_SORT_DIGITS - 1);
		}, [=](long i, int at) {
			const int position = from ? from[i] : (int)i;
			to[at] = position;
			sorted[at] = tmpl_embedding_grad_row(ids, position, first, rows);
		});
}

// sum: what the positions order[begin] to order[end - 1] received in `count` columns, added up.
template <int width> MP_DEVICE void tmpl_embedding_grad_add(full (&sum)[width], int count, const int *order, const real *dy, long begin,
		long end, long columns)
{
	for (int e = 0; e < count; e++)
		sum[e] = 0;
	MP_UNROLL
	for (long k = begin; k < end; k++) {
		const auto value = mp_load<width>(dy + order[k] * columns);
		for (int e = 0; e < count; e++)
			sum[e] += (full)value[e];
	}
}

// The end of the run of `row` that begins before `begin`, `limit` at most.
MP_DEVICE long tmpl_embedding_grad_end(const int *sorted, long begin, long limit, int row)
{
	long end = begin;
	while (end < limit && sorted[end] == row)
		end++;
	return end;
}

// heads: what the first positions of each piece add to a run that began before it.
template <int width> MP_DEVICE void tmpl_embedding_grad_piece(full *__restrict__ heads, const int *__restrict__ order,
		const int *__restrict__ sorted, const real *__restrict__ dy, long n, long columns, long rows, long piece, int lanes)
{
	const long begin = piece * 64, limit = begin + 64 < n ? begin + 64 : n;
	const int row = sorted[begin];
	if (row == rows || sorted[begin - 1] != row)
		return;
	const long end = tmpl_embedding_grad_end(sorted, begin, limit, row);
	for (long c = mp_column_first(lanes) * width; c < columns; c += mp_column_stride(lanes) * width) {
		const int count = mp_strip_width<width>(columns - c);
		full sum[width];
		tmpl_embedding_grad_add(sum, count, order, dy + c, begin, end, columns);
		mp_store<width>(heads + piece * columns + c, sum, count);
	}
}

static __global__ void tmpl_embedding_grad_heads_kernel(full *__restrict__ heads, const int *__restrict__ order,
		const int *__restrict__ sorted, const real *__restrict__ dy, long n, long columns, long rows, int lanes, bool wide)
{
	for (long piece = 1 + mp_row_first(lanes); piece * 64 < n; piece += mp_row_stride(lanes))
		if (wide)
			tmpl_embedding_grad_piece<MP_PANEL(full)>(heads, order, sorted, dy, n, columns, rows, piece, lanes);
		else
			tmpl_embedding_grad_piece<MP_NARROW_PANEL>(heads, order, sorted, dy, n, columns, rows, piece, lanes);
}

// The first position in the order whose row is not less.
MP_DEVICE long tmpl_embedding_grad_begin(const int *sorted, long n, int row)
{
	long begin = 0;
	for (long high = n; begin < high;) {
		const long middle = (begin + high) / 2;
		if (sorted[middle] < row)
			begin = middle + 1;
		else
			high = middle;
	}
	return begin;
}

// begin: the first position of the row, or of a greater one.
template <int width> MP_DEVICE void tmpl_embedding_grad_row_sum(full *__restrict__ to, const full *__restrict__ heads,
		const int *__restrict__ order, const int *__restrict__ sorted, const real *__restrict__ dy, long n, long columns, int row,
		long begin, bool accumulate, int lanes)
{
	const long limit = begin / 64 * 64 + 64 < n ? begin / 64 * 64 + 64 : n, end = tmpl_embedding_grad_end(sorted, begin, limit, row);
	for (long c = mp_column_first(lanes) * width; c < columns; c += mp_column_stride(lanes) * width) {
		const int count = mp_strip_width<width>(columns - c);
		full sum[width];
		tmpl_embedding_grad_add(sum, count, order, dy + c, begin, end, columns);
		for (long next = limit; end == limit && next < n && sorted[next] == row; next += 64)
			for (int e = 0; e < count; e++)
				sum[e] += heads[next / 64 * columns + c + e];
		for (int e = 0; accumulate && e < count; e++)
			sum[e] += to[c + e];
		mp_store<width>(to + c, sum, count);
	}
}

static __global__ void tmpl_embedding_grad_kernel(full *__restrict__ dtable, const full *__restrict__ heads,
		const int *__restrict__ order, const int *__restrict__ sorted, const real *__restrict__ dy, long n, long columns, long rows,
		bool accumulate, int lanes, bool wide)
{
	for (long k = mp_row_first(lanes); k < (accumulate ? n : rows); k += mp_row_stride(lanes)) { // of positions, or of rows
		const int row = accumulate ? sorted[k] : (int)k;
		if (accumulate && (row == rows || (k > 0 && sorted[k - 1] == row)))
			continue;
		const long begin = accumulate ? k : tmpl_embedding_grad_begin(sorted, n, row);
		full *const to = dtable + row * columns;
		if (wide)
			tmpl_embedding_grad_row_sum<MP_PANEL(full)>(to, heads, order, sorted, dy, n, columns, row, begin, accumulate, lanes);
		else
			tmpl_embedding_grad_row_sum<MP_NARROW_PANEL>(to, heads, order, sorted, dy, n, columns, row, begin, accumulate, lanes);
	}
}

// dtable: full[rows, columns], row r = sum of dy[i] over the i with ids[i] == first + r, added to what was there when
// accumulate
// Working memory: order: int[3, n]; counts: int[64, 512]; heads: full[(n + 63) / 64, columns]
// ids: int[n], others than the rows' are passed over; dy: real[n, columns]; rows < 2^31
void tmpl_embedding_grad(full *dtable, int *order, int *counts, full *heads, const int *ids, const real *dy, long n, long columns,
		long first, long rows, bool accumulate, cudaStream_t stream)
{
	int *from = NULL, *to = order, *sorted = order + 2 * n;
	for (int shift = 0; shift == 0 || rows >> shift; shift += MP_SORT_BITS) {
		MP_LAUNCH(tmpl_embedding_grad_count_kernel, mp_row_blocks(MP_SORT_CHUNKS), MP_SORT_THREADS, stream, counts, from, ids, n,
				first, rows, shift);
		MP_LAUNCH(tmpl_embedding_grad_place_kernel, mp_row_blocks(MP_SORT_CHUNKS), MP_SORT_THREADS, stream, to, sorted, counts,
				from, ids, n, first, rows, shift);
		from = to;
		to = to == order ? order + n : order;
	}
	const bool wide = mp_wide<full>(columns, dtable, heads, dy);
	const int lanes = mp_lanes(wide ? columns / MP_STRIP(full) : columns);
	MP_LAUNCH(tmpl_embedding_grad_heads_kernel, mp_matrix_blocks((n + 63) / 64, lanes), MP_THREADS, stream, heads, from, sorted,
			dy, n, columns, rows, lanes, wide);
	MP_LAUNCH(tmpl_embedding_grad_kernel, mp_matrix_blocks(accumulate ? n : rows, lanes), MP_THREADS, stream, dtable, heads, from, sorted, dy, n,
			columns, rows, accumulate, lanes, wide);
}
