// column_sums.cu: the template of sums down the columns of many rows, as the gradient of a bias is. First every chunk of
// the rows is added up by blocks of its own, as many as a device runs at once, then the chunks: the order of the additions
// depends on the extents alone, and there are no atomics. One chunk needs no second kernel; its blocks have few columns each, which reads
// memory by small pieces: right for what is still in cache. Several tensors, as the gradients of a norm's weight and bias make them, take
// no longer than one where each alone does not keep the device busy.
#include "mp_kernel.h"

typedef float real; //@ param
typedef float full; //@ param

template <int strip> MP_DEVICE void tmpl_column_sums_tiles(const struct mp_addends &sums, int count, long rows, long columns,
		unsigned chunks, bool accumulate, int lanes)
{
	const long tile = lanes * strip;
	const unsigned tiles = (columns + tile - 1) / tile, blocks = count * chunks * tiles;
	for (unsigned block = blockIdx.x; block < blocks; block += gridDim.x) {
		const struct mp_addend &of = sums.of[block / (chunks * tiles)];
		const long chunk = block / tiles % chunks, first = block % tiles * tile;
		const long from = rows * chunk / chunks, some = rows * (chunk + 1) / chunks - from;
		full *to = (full *)(chunks > 1 ? of.partials : of.sums) + chunk * columns + first;
		mp_column_sums<strip, full>((const real *)of.x + from * columns + first, some, columns, columns - first, lanes,
				[=](int column, full sum) { to[column] = accumulate ? to[column] + sum : sum; });
	}
}

// accumulate: one chunk, and its sums are added to those that are there.
static MP_SUM_BLOCKS __global__ void tmpl_column_sums_chunks_kernel(const __grid_constant__ struct mp_addends sums, int count,
		long rows, long columns, unsigned chunks, bool accumulate, int lanes, bool wide)
{
	if (wide)
		tmpl_column_sums_tiles<MP_STRIP(real)>(sums, count, rows, columns, chunks, accumulate, lanes);
	else
		tmpl_column_sums_tiles<1>(sums, count, rows, columns, chunks, accumulate, lanes);
}

// Narrow tiles, because there is little to read and the device is to read it at once.
static MP_SUM_BLOCKS __global__ void tmpl_column_sums_kernel(const __grid_constant__ struct mp_addends sums, int count, long columns,
		long chunks, bool accumulate, int lanes)
{
	const unsigned tiles = (columns + lanes - 1) / lanes;
	for (unsigned block = blockIdx.x; block < count * tiles; block += gridDim.x) {
		const struct mp_addend &of = sums.of[block / tiles];
		const long first = block % tiles * (long)lanes;
		full *to = (full *)of.sums + first;
		mp_column_sums<1, full>((const full *)of.partials + first, chunks, columns, columns - first, lanes, [=](int column, full sum) {
			to[column] = accumulate ? to[column] + sum : sum;
		});
	}
}

// For each tensor x: real[rows, columns] of sums, sums: full[columns] = the sum over its rows; += when accumulate
// partials: full[chunks, columns], working memory; chunk j has the rows [rows * j / chunks, rows * (j + 1) / chunks); one chunk needs none
void tmpl_column_sums(struct mp_addends sums, long rows, long columns, long chunks, bool accumulate, cudaStream_t stream)
{
	bool wide = true;
	int count = 0;
	for (; count < MP_ADDENDS && sums.of[count].sums; count++)
		wide = wide && mp_wide<real>(columns, (const real *)sums.of[count].x);
	const int strip = wide ? MP_STRIP(real) : 1, lanes = mp_sum_lanes((columns + strip - 1) / strip, count * chunks);
	MP_LAUNCH(tmpl_column_sums_chunks_kernel, mp_row_blocks(count * chunks * ((columns + lanes * strip - 1) / (lanes * strip))),
			mp_sum_threads((rows + chunks - 1) / chunks, lanes), stream, sums, count, rows, columns, chunks, accumulate && chunks == 1, lanes,
			wide);
	if (chunks == 1)
		return;
	const int few = mp_sum_lanes(columns, count);
	MP_LAUNCH(tmpl_column_sums_kernel, mp_row_blocks(count * ((columns + few - 1) / few)), mp_sum_threads(chunks, few), stream,
			sums, count, columns, chunks, accumulate, few);
}
