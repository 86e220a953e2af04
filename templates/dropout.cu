// dropout.cu: the template of dropout and, on slopes, of its gradient. Whether an element is kept follows from its
// index in the whole tensor, the step's key and the layer alone: no mask is stored, and every cut of a tensor into
// shards and micro-batches drops the same elements.
#include "mp_kernel.h"

typedef float real; //@ param
typedef float full; //@ param

// Elements of whole blocks, numbered from 4 * block on: words 0 to 3 of random number b decide about elements 4 * b to 4 * b + 3.
// They are loaded and stored `width` at once, a divisor of 4.
template <int width>
MP_DEVICE void tmpl_dropout_blocks(real *__restrict__ y, const real *__restrict__ x, const uint32_t key[4], uint64_t block,
		int n, uint32_t threshold, full scale)
{
	uint32_t word[4][MP_PHILOX_STRIP];
	mp_philox_numbers(word, block, key, n);
	for (int j = 0; j < n; j++)
		for (int k = 0; k < 4; k += width) {
			const auto from = mp_load<width>(x + 4 * j + k);
			real to[width];
			for (int e = 0; e < width; e++) {
				const full kept = (full)from[e] * scale;
				to[e] = word[k + e][j] >> 8 >= threshold ? kept : (full)0;
			}
			mp_store<width>(y + 4 * j + k, to, width);
		}
}

// A row's elements have adjacent numbers, from `first` on.
template <int width>
MP_DEVICE void tmpl_dropout_row(real *__restrict__ y, const real *__restrict__ x, const uint32_t key[4], uint64_t first,
		long columns, uint32_t threshold, full scale, int lanes)
{
	const long before = (long)(-first % 4), head = before < columns ? before : columns, blocks = (columns - head) / 4;
	const uint64_t block = (first + head) / 4;
	long i = mp_column_first(lanes) * MP_PHILOX_STRIP;
	for (; i + MP_PHILOX_STRIP <= blocks; i += mp_column_stride(lanes) * MP_PHILOX_STRIP)
		tmpl_dropout_blocks<width>(y + head + 4 * i, x + head + 4 * i, key, block + i, MP_PHILOX_STRIP, threshold, scale);
	if (i < blocks)
		tmpl_dropout_blocks<width>(y + head + 4 * i, x + head + 4 * i, key, block + i, (int)(blocks - i), threshold, scale);
	// The ends, of blocks that the row shares with others: up to 3 elements each.
	for (i = mp_column_first(lanes); i < columns - 4 * blocks; i += mp_column_stride(lanes)) {
		const long at = i < head ? i : i + 4 * blocks;
		const uint64_t number = first + at;
		uint32_t word[4][MP_PHILOX_STRIP];
		mp_philox_numbers(word, number / 4, key, 1);
		const uint32_t low = number & 1 ? word[1][0] : word[0][0], high = number & 1 ? word[3][0] : word[2][0];
		y[at] = (number & 2 ? high : low) >> 8 >= threshold ? (full)x[at] * scale : (full)0;
	}
}

static __global__ void tmpl_dropout_kernel(real *__restrict__ y, const real *__restrict__ x, const int *__restrict__ key,
		long outer, long extent, long columns, uint64_t first, uint64_t outer_numbers, uint64_t numbers, unsigned layer,
		uint32_t threshold, full scale, int lanes, bool wide)
{
	const uint32_t words[4] = {(uint32_t)key[0] ^ layer, (uint32_t)key[1], (uint32_t)key[2], (uint32_t)key[3]};
	for (long row = mp_row_first(lanes); row < outer * extent; row += mp_row_stride(lanes)) {
		const real *from = x + row * columns;
		real *to = y + row * columns;
		const uint64_t number = first + row / extent * outer_numbers + row % extent * numbers;
		if (wide)
			tmpl_dropout_row<(MP_WIDE(real) < 4 ? MP_WIDE(real) : 4)>(to, from, words, number, columns, threshold, scale, lanes);
		else
			tmpl_dropout_row<1>(to, from, words, number, columns, threshold, scale, lanes);
	}
}

static __global__ void tmpl_dropout_copy_kernel(real *__restrict__ y, const real *__restrict__ x, long n)
{
	MP_UNROLL
	for (long i = mp_first(); i < n; i += mp_stride())
		y[i] = x[i];
}

// y: real[outer, extent, columns] = x times 1 / (1 - rate) where a random number in [0, 1) is at least rate, else 0;
// evaluating: x
// Element (o, e, c) has the number first + o * outer_numbers + e * numbers + c of the whole tensor. It draws word
// number % 4 of Philox 4x32-10 with key {key[0] ^ layer, key[1]} and counter {number / 4 low, high, key[2], key[3]}, of
// which the upper 24 bits count. key: int[4]
void tmpl_dropout(real *y, const real *x, const int *key, long outer, long extent, long columns, long first,
		long outer_numbers, long numbers, unsigned layer, full rate, bool evaluating, cudaStream_t stream)
{
	const long n = outer * extent * columns;
	for (int level = 0; level < 2; level++) { // rows that lie one behind the other in the whole tensor are one
		if (extent == 1 || numbers == columns) {
			columns *= extent;
			extent = outer;
			numbers = outer_numbers;
			outer = 1;
			outer_numbers = 0;
		}
	}
	const uint64_t step = outer * extent > 1 ? columns : 0;
	const bool wide = mp_wide<real>(step, y, x) && ((uint64_t)first | outer_numbers | numbers | step) % 4 == 0;
	const int lanes = mp_lanes((columns + 3) / 4);
	if (evaluating)
		MP_LAUNCH(tmpl_dropout_copy_kernel, mp_blocks(n), MP_THREADS, stream, y, x, n);
	else
		MP_LAUNCH(tmpl_dropout_kernel, mp_matrix_blocks(outer * extent, lanes), MP_THREADS, stream, y, x, key, outer, extent,
				columns, (uint64_t)first, (uint64_t)outer_numbers, (uint64_t)numbers, layer,
				(uint32_t)ceil((double)rate * 16777216), 1 / (1 - rate), lanes, wide);
}
