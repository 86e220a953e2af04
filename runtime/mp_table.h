// mp_table.h: kernels that go through many tensors in one launch, on both machines; part of mp_kernel.h, which includes it.
//
// Where the tensors lie is a table with a row of int for each parameter that a device trains. A tensor is cut into chunks,
// counted from its first element, and a chunk into parts, each of which is a block's: neither the other tensors nor the
// addresses change what is computed of one. A block finds its row by bisection, which is little beside thousands of elements.
#ifndef MP_TABLE_H
#define MP_TABLE_H

#include "mp_halves.h"

// The columns. Places are offsets in the arena in units of MP_PLACE bytes, -1 where there is no such tensor.
enum {
	MP_GRADIENT, MP_WEIGHT, MP_FIRST_STATE, MP_SECOND_STATE, // places
	MP_COPY,                // that of the copy in the compute type
	MP_LOWER,               // that of the lower halves of weights, whose upper ones are the copy (mp_halves.h): there is no MP_WEIGHT then
	MP_PARAMETER,           // number of the parameter in the whole model; rises
	MP_CHUNK, MP_CHUNKS,    // its first chunk among those of all rows, and how many it has
	MP_REST,                // elements of its last chunk
	MP_SPLIT,               // a bit for each axis (1 << MP_DP, 1 << MP_TP) whose ranks have parts of it
	MP_DECAYS,              // 1: weight decay applies
	MP_ROUNDED,             // 1: the gradient is in the compute type
	MP_COLUMNS
};

#define MP_PLACE 256L

#ifdef __CUDACC__
#define MP_PARTS 8 // of a chunk: so many that the last blocks to end are short
#else
#define MP_PARTS 1
#endif

// The last row whose value in `column` is at most `value`; the column rises.
MP_DEVICE const int *mp_table_row(const int *table, long rows, int column, long value)
{
	long low = 0, high = rows;
	while (high - low > 1) {
		const long middle = (low + high) / 2;
		if (table[middle * MP_COLUMNS + column] <= value)
			low = middle;
		else
			high = middle;
	}
	return table + low * MP_COLUMNS;
}

// Elements from the one with number `first` on of the row's tensor in a column; NULL where there is none.
template <class T> MP_DEVICE T *mp_table_tensor(char *arena, const int *row, int column, long first)
{
	return row[column] < 0 ? NULL : (T *)(arena + row[column] * MP_PLACE) + first;
}

// use(gradient) with the row's gradient from the element with number `first` on, a pointer to whichever type it is in: real, that of working
// copies, or full.
template <class real, class full, class Use> MP_DEVICE auto mp_with_gradient(char *arena, const int *row, long first, Use use)
{
	return row[MP_ROUNDED] ? use(mp_table_tensor<const real>(arena, row, MP_GRADIENT, first)) : use(mp_table_tensor<const full>(arena, row, MP_GRADIENT, first));
}

// Weights from one of a row on: whole, beside them their copy in the type real where there is one; or in halves.
template <class real, class full> struct mp_whole_weights {
	full *whole;
	real *copy;
};
struct mp_halved_weights {
	mp_bf16 *upper;
	uint16_t *lower;
};

template <class full, int width> struct mp_joined {
	full at[width];
	__device__ full operator[](int k) const { return at[k]; }
};

template <int width, class real, class full> MP_DEVICE auto mp_load_weights(const mp_whole_weights<real, full> &from, long c)
{
	return mp_load<width>(from.whole + c);
}

template <int width> MP_DEVICE mp_joined<float, width> mp_load_weights(const mp_halved_weights &from, long c)
{
	const auto upper = mp_load<width>(from.upper + c);
	const auto lower = mp_load<width>(from.lower + c);
	mp_joined<float, width> whole;
	for (int e = 0; e < width; e++)
		whole.at[e] = mp_join_halves(upper[e], lower[e]);
	return whole;
}

template <int width, class real, class full> MP_DEVICE void mp_store_weights(const mp_whole_weights<real, full> &to, long c, const full (&value)[width])
{
	real copy[width];
	for (int e = 0; e < width; e++)
		copy[e] = mp_working_copy<real>(value[e]);
	mp_store<width>(to.whole + c, value, width);
	if (to.copy)
		mp_store<width>(to.copy + c, copy, width);
}

template <int width> MP_DEVICE void mp_store_weights(const mp_halved_weights &to, long c, const float (&value)[width])
{
	mp_bf16 upper[width];
	uint16_t lower[width];
	for (int e = 0; e < width; e++) {
		upper[e] = mp_upper_half(value[e]);
		lower[e] = mp_lower_half(value[e]);
	}
	mp_store<width>(to.upper + c, upper, width);
	mp_store<width>(to.lower + c, lower, width);
}

// use(weights) with the row's weights from the element with number `first` on, in whichever form they are.
template <class real, class full, class Use> MP_DEVICE void mp_with_weights(char *arena, const int *row, long first, Use use)
{
	real *const copy = mp_table_tensor<real>(arena, row, MP_COPY, first);
	if constexpr (sizeof(real) == sizeof(mp_bf16))
		if (row[MP_LOWER] >= 0)
			return use(mp_halved_weights{copy, mp_table_tensor<uint16_t>(arena, row, MP_LOWER, first)});
	use(mp_whole_weights<real, full>{mp_table_tensor<full>(arena, row, MP_WEIGHT, first), copy});
}

// each(row, first, n) for the elements from `first` on of every tensor, n at a time, by a whole block; first is a multiple of 16.
template <class Each> MP_DEVICE void mp_each_part(const int *table, long rows, long chunks, long chunk, Each each)
{
	const long size = chunk / MP_PARTS;
	for (long block = blockIdx.x; block < chunks * MP_PARTS; block += gridDim.x) {
		const int *row = mp_table_row(table, rows, MP_CHUNK, block / MP_PARTS);
		const long index = block / MP_PARTS - row[MP_CHUNK], in_chunk = block % MP_PARTS * size;
		const long left = (index < row[MP_CHUNKS] - 1 ? chunk : row[MP_REST]) - in_chunk;
		if (left > 0)
			each(row, index * chunk + in_chunk, left < size ? left : size);
	}
}

#ifdef __CUDACC__

// change(strip, c) for strips of the n elements of a part, and one by one for those behind the last whole strip.
template <int width, class Change> MP_DEVICE void mp_change_part(long n, Change change)
{
	const long body = n / width * width;
	mp_each_strip<width>(body, change);
	mp_each_strip<1>(n - body, [&](auto strip, long c) { change(strip, body + c); });
}

#else

#ifdef __clang__
#define MP_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define MP_INDEPENDENT _Pragma("GCC ivdep")
#endif

// The tensors of a row do not overlap: without being told, the compiler would compare too many addresses to vectorise.
template <int width, class Change> MP_DEVICE void mp_change_part(long n, Change change)
{
	MP_INDEPENDENT
	for (long c = 0; c < n; c++)
		change(mp_width<1>(), c);
}

#endif
#endif
