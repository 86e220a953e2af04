// column_sums.cu: the template of sums down the columns of many rows, as the gradient of a bias is. First every chunk of
// the rows is added up by blocks of its own, as many as a device runs at once, then the chunks: the order of the additions
// depends on the extents alone, and there are no atomics.
#include "mp_kernel.h"

typedef float real; //@ param
typedef float full; //@ param

template <int strip> MP_DEVICE void tmpl_column_sums_tiles(full *__restrict__ partials, const real *__restrict__ x, long rows,
		long columns, long chunks, int lanes)
{
	const long tile = lanes * strip, tiles = (columns + tile - 1) / tile;
	for (long block = blockIdx.x; block < chunks * tiles; block += gridDim.x) {
		const long chunk = block / tiles, first = block % tiles * tile;
		const long from = rows * chunk / chunks, count = rows * (chunk + 1) / chunks - from;
		full *to = partials + chunk * columns + first;
		mp_column_sums<strip, full>(x + from * columns + first, count, columns, columns - first, lanes,
				[=](int column, full sum) { to[column] = sum; });
	}
}

static MP_SUM_BLOCKS __global__ void tmpl_column_sums_chunks_kernel(full *__restrict__ partials, const real *__restrict__ x,
		long rows, long columns, long chunks, int lanes, bool wide)
{
	if (wide)
		tmpl_column_sums_tiles<MP_STRIP(real)>(partials, x, rows, columns, chunks, lanes);
	else
		tmpl_column_sums_tiles<1>(partials, x, rows, columns, chunks, lanes);
}

// Narrow tiles, because there is little to read and the device is to read it at once.
static MP_SUM_BLOCKS __global__ void tmpl_column_sums_kernel(full *__restrict__ y, const full *__restrict__ partials,
		long columns, long chunks, bool accumulate, int lanes)
{
	for (long first = (long)blockIdx.x * lanes; first < columns; first += (long)gridDim.x * lanes)
		mp_column_sums<1, full>(partials + first, chunks, columns, columns - first, lanes, [=](int column, full sum) {
			y[first + column] = accumulate ? y[first + column] + sum : sum;
		});
}

// y: full[columns] = the sum over the rows of x: real[rows, columns]; y += when accumulate
// partials: full[chunks, columns], working memory; chunk j has the rows [rows * j / chunks, rows * (j + 1) / chunks)
void tmpl_column_sums(full *y, full *partials, const real *x, long rows, long columns, long chunks, bool accumulate,
		cudaStream_t stream)
{
	const bool wide = mp_wide<real>(columns, x);
	const int strip = wide ? MP_STRIP(real) : 1, lanes = mp_sum_lanes((columns + strip - 1) / strip, chunks);
	MP_LAUNCH(tmpl_column_sums_chunks_kernel, mp_row_blocks(chunks * ((columns + lanes * strip - 1) / (lanes * strip))),
			mp_sum_threads((rows + chunks - 1) / chunks, lanes), stream, partials, x, rows, columns, chunks, lanes, wide);
	const int few = mp_sum_lanes(columns, 1);
	MP_LAUNCH(tmpl_column_sums_kernel, mp_row_blocks((columns + few - 1) / few), mp_sum_threads(chunks, few), stream,
			y, partials, columns, chunks, accumulate, few);
}
