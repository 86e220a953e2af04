// conv.c: mp_conv on the CPU.
//
// A convolution is a product of matrices once the pixels that a window sees lie beside each other: one row for each
// output pixel, called columns here. That matrix is r*s times as large as the image, so it is made for a tile of output
// pixels at a time, small enough to be in the cache when OpenBLAS reads it. With channels last a row of a window is one
// stretch of the image. A 1x1 window that moves by one pixel needs no columns. The gradients:
//   weights: dw = the sum over tiles of dy^T columns, in the order of the tiles
//   input:   dy w gives columns, which are added to the pixels that they stand for. (Where windows move by one pixel, a
//            convolution of dy with the weights turned round would do; it was never faster.)
// Where every group has one input channel (depthwise) a product of matrices would use each column once: loops over the
// channels do it. The order of every sum depends on the shape alone.
#include "mp.h"
#include "mp_host.h"

#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void mp_conv_prepare(struct mp_rank *r);
void mp_conv_release(struct mp_rank *r);

// A rank's thread executes each of its operations to the end, whatever their streams: they can share this.
struct mp_conv_plan {
	char *scratch;                  // columns of a tile, or weights of a depthwise convolution
};

struct conv_call {
	const struct mp_conv *conv;
	const char *a, *b, *bias;
	char *result, *scratch;
	bool accumulate;
};

// Bytes of columns of a tile: half of a level-2 cache. OpenBLAS copies the weights into an order of its own for every
// tile, so a tile has at least so many rows all the same.
enum { TILE_BYTES = 512 * 1024, TILE_ROWS = 256 };

// ---------------------------------------------------------------------------------------------------------
// Extents

static size_t type_bytes(const struct mp_conv *v)
{
	return v->type == MP_F64 ? sizeof(double) : sizeof(float);
}

static size_t output_pixels(const struct mp_conv *v)
{
	return (size_t)v->n * (size_t)v->p * (size_t)v->q;
}

static size_t image_bytes(const struct mp_conv *v)
{
	return (size_t)v->n * (size_t)v->h * (size_t)v->w * (size_t)v->c * type_bytes(v);
}

static size_t taps_of(const struct mp_conv *v)
{
	return (size_t)v->r * (size_t)v->s;
}

// Elements of a row of columns: those of a window in one group.
static size_t window(const struct mp_conv *v)
{
	return taps_of(v) * (size_t)(v->c / v->groups);
}

static bool is_depthwise(const struct mp_conv *v)
{
	return v->groups > 1 && v->groups == v->c;
}

// Whether the image itself is the matrix of columns.
static bool is_product(const struct mp_conv *v)
{
	return taps_of(v) == 1 && v->stride[0] == 1 && v->stride[1] == 1 && v->padding[0] == 0 && v->padding[1] == 0;
}

static size_t tile_rows(const struct mp_conv *v)
{
	size_t pixels = output_pixels(v), rows = TILE_BYTES / (window(v) * type_bytes(v));
	rows = rows < TILE_ROWS ? TILE_ROWS : rows;
	return is_product(v) || rows > pixels ? pixels : rows;
}

// ---------------------------------------------------------------------------------------------------------
// Loops over channels, for both types

// scale:   y[i] += x[i / times] * w[i]         each of `count` channels x has `times` elements of y and w
// reduce:  x[i / times] += y[i] * w[i]
// add:     y[i] += x[i]
struct loops {
	void (*scale)(void *y, const void *x, const void *w, size_t count, size_t times);
	void (*reduce)(void *x, const void *y, const void *w, size_t count, size_t times);
	void (*add)(void *y, const void *x, size_t count);
};

#define LOOPS(TYPE) \
	static void scale_##TYPE(void *to, const void *from, const void *weights, size_t count, size_t times) \
	{ \
		TYPE *restrict y = to; \
		const TYPE *restrict x = from, *restrict w = weights; \
		if (times == 1) \
			for (size_t i = 0; i < count; i++) \
				y[i] += x[i] * w[i]; \
		else \
			for (size_t i = 0; i < count; i++) \
				for (size_t j = 0; j < times; j++) \
					y[i * times + j] += x[i] * w[i * times + j]; \
	} \
	static void reduce_##TYPE(void *to, const void *from, const void *weights, size_t count, size_t times) \
	{ \
		TYPE *restrict x = to; \
		const TYPE *restrict y = from, *restrict w = weights; \
		if (times == 1) \
			for (size_t i = 0; i < count; i++) \
				x[i] += y[i] * w[i]; \
		else \
			for (size_t i = 0; i < count; i++) \
				for (size_t j = 0; j < times; j++) \
					x[i] += y[i * times + j] * w[i * times + j]; \
	} \
	static inline void add_##TYPE(void *to, const void *from, size_t count) \
	{ \
		TYPE *restrict y = to; \
		const TYPE *restrict x = from; \
		for (size_t i = 0; i < count; i++) \
			y[i] += x[i]; \
	} \
	static const struct loops loops_##TYPE = {scale_##TYPE, reduce_##TYPE, add_##TYPE}; \
	static inline void add_stretch_##TYPE(char *columns, char *image, size_t bytes) \
	{ \
		if (image) \
			add_##TYPE(image, columns, bytes / sizeof(TYPE)); \
	}

LOOPS(float)
LOOPS(double)

static const struct loops *loops_of(const struct mp_conv *v)
{
	return v->type == MP_F64 ? &loops_double : &loops_float;
}

// C[m,n] = op(A) op(B), or += with accumulate; row-major, with leading dimensions.
static void multiply(enum mp_type type, enum mp_transpose transpose, size_t m, size_t n, size_t k, const void *a, size_t lda,
                     const void *b, size_t ldb, bool accumulate, void *c, size_t ldc)
{
	CBLAS_TRANSPOSE ta = transpose == MP_TN ? CblasTrans : CblasNoTrans;
	CBLAS_TRANSPOSE tb = transpose == MP_NT ? CblasTrans : CblasNoTrans;
	if (type == MP_F64)
		cblas_dgemm(CblasRowMajor, ta, tb, (int)m, (int)n, (int)k, 1, a, (int)lda, b, (int)ldb, accumulate, c, (int)ldc);
	else
		cblas_sgemm(CblasRowMajor, ta, tb, (int)m, (int)n, (int)k, 1, a, (int)lda, b, (int)ldb, accumulate, c, (int)ldc);
}

// ---------------------------------------------------------------------------------------------------------
// Columns

// What happens to a stretch of elements that lie beside each other in the image (NULL: in the padding) and in the columns.
typedef void visit(char *columns, char *image, size_t bytes);

static inline void copy_stretch(char *columns, char *image, size_t bytes)
{
	if (!image)
		memset(columns, 0, bytes);
	else if (bytes == 16)
		memcpy(columns, image, 16);
	else if (bytes == 12)
		memcpy(columns, image, 12);
	else
		memcpy(columns, image, bytes);
}

// The columns of one pixel whose window, from row y and column x on, is partly in the padding. A stretch has so many taps.
static inline void visit_edge(const struct mp_conv *v, char *image, int y, int x, int taps, size_t tap_bytes, char *columns,
                              visit *stretch)
{
	size_t pixel = (size_t)v->c * type_bytes(v);
	for (int i = 0; i < v->r; i++, y += v->dilation[0])
		for (int j = 0; j < v->s; j += taps, columns += (size_t)taps * tap_bytes) {
			int first = x + j * v->dilation[1], end = first + taps;
			int from = first > 0 ? first : 0, to = end < v->w ? end : v->w;
			if (y < 0 || y >= v->h || from >= to) {
				stretch(columns, NULL, (size_t)taps * tap_bytes);
				continue;
			}
			if (from > first)
				stretch(columns, NULL, (size_t)(from - first) * tap_bytes);
			stretch(columns + (size_t)(from - first) * tap_bytes, image + ((size_t)y * (size_t)v->w + (size_t)from) * pixel,
			        (size_t)(to - from) * tap_bytes);
			if (to < end)
				stretch(columns + (size_t)(to - first) * tap_bytes, NULL, (size_t)(end - to) * tap_bytes);
		}
}

// Visits the columns of output pixels first .. first+rows-1 in one group.
static inline void visit_columns(const struct mp_conv *v, int group, size_t first, size_t rows, char *images, char *columns,
                                 visit *stretch)
{
	size_t pixel = (size_t)v->c * type_bytes(v), tap_bytes = pixel / (size_t)v->groups;
	size_t line = (size_t)v->w * pixel, row_bytes = window(v) * type_bytes(v);
	int taps = v->groups == 1 && v->dilation[1] == 1 ? v->s : 1; // that lie beside each other
	int q = (int)(first % (size_t)v->q), p = (int)(first / (size_t)v->q % (size_t)v->p);
	char *image = images + (size_t)group * tap_bytes + first / (size_t)v->q / (size_t)v->p * (size_t)v->h * line;

	for (char *end = columns + rows * row_bytes; columns < end; columns += row_bytes) {
		int y = p * v->stride[0] - v->padding[0], x = q * v->stride[1] - v->padding[1];
		if (y < 0 || x < 0 || y + (v->r - 1) * v->dilation[0] >= v->h || x + (v->s - 1) * v->dilation[1] >= v->w) {
			visit_edge(v, image, y, x, taps, tap_bytes, columns, stretch);
		} else {
			char *from = image + (size_t)y * line + (size_t)x * pixel, *to = columns;
			for (int i = 0; i < v->r; i++, from += (size_t)v->dilation[0] * line)
				for (int j = 0; j < v->s; j += taps, to += (size_t)taps * tap_bytes)
					stretch(to, from + (size_t)j * (size_t)v->dilation[1] * pixel, (size_t)taps * tap_bytes);
		}
		if (++q == v->q) {
			q = 0;
			if (++p == v->p) {
				p = 0;
				image += (size_t)v->h * line;
			}
		}
	}
}

static void gather(const struct mp_conv *v, int group, size_t first, size_t rows, char *images, char *columns)
{
	visit_columns(v, group, first, rows, images, columns, copy_stretch);
}

static void scatter(const struct mp_conv *v, int group, size_t first, size_t rows, char *images, char *columns)
{
	if (v->type == MP_F64)
		visit_columns(v, group, first, rows, images, columns, add_stretch_double);
	else
		visit_columns(v, group, first, rows, images, columns, add_stretch_float);
}

// ---------------------------------------------------------------------------------------------------------
// Products of matrices

// One tile of one group: columns[rows, window], output[rows, outputs] with rows of k elements, weights[outputs, window].
static void multiply_tile(const struct mp_conv *v, size_t rows, char *columns, char *output, char *weights, bool accumulate)
{
	size_t inner = window(v), leading = is_product(v) ? (size_t)v->c : inner;
	size_t outputs = (size_t)(v->k / v->groups), k = (size_t)v->k;

	if (v->kind == MP_CONV_FORWARD)
		multiply(v->type, MP_NT, rows, outputs, inner, columns, leading, weights, inner, false, output, k);
	else if (v->kind == MP_CONV_INPUT_GRAD)
		multiply(v->type, MP_NN, rows, inner, outputs, output, k, weights, inner, false, columns, leading);
	else
		multiply(v->type, MP_TN, outputs, inner, rows, output, k, columns, leading, accumulate, weights, inner);
}

// pixels[count, k] += bias[k]
static void add_bias(const struct mp_conv *v, char *pixels, const char *bias, size_t count)
{
	for (size_t i = 0; bias && i < count; i++)
		loops_of(v)->add(pixels + i * (size_t)v->k * type_bytes(v), bias, (size_t)v->k);
}

static void multiply_tiles(const struct mp_conv *v, char *x, char *w, char *y, const struct conv_call *call)
{
	size_t bytes = type_bytes(v), pixels = output_pixels(v), outputs = (size_t)(v->k / v->groups), rows;
	bool product = is_product(v), input_gradient = v->kind == MP_CONV_INPUT_GRAD;
	char *scratch = call->scratch;

	if (input_gradient && !product)
		memset(x, 0, image_bytes(v));
	for (size_t first = 0; first < pixels; first += rows) {
		rows = tile_rows(v) < pixels - first ? tile_rows(v) : pixels - first;
		for (int g = 0; g < v->groups; g++) {
			char *columns = product ? x + (size_t)g * window(v) * bytes : scratch;
			if (!product && !input_gradient)
				gather(v, g, first, rows, x, columns);
			multiply_tile(v, rows, columns, y + (first * (size_t)v->k + (size_t)g * outputs) * bytes,
			              w + (size_t)g * outputs * window(v) * bytes, call->accumulate || first > 0);
			if (!product && input_gradient)
				scatter(v, g, first, rows, x, columns);
		}
		add_bias(v, y + first * (size_t)v->k * bytes, call->bias, rows);
	}
}

// ---------------------------------------------------------------------------------------------------------
// Depthwise: one input channel a group

// to[columns, rows] = from[rows, columns]
static void transpose(const struct mp_conv *v, const char *from, char *to, size_t rows, size_t columns)
{
	size_t bytes = type_bytes(v);
	for (size_t i = 0; i < rows; i++)
		for (size_t j = 0; j < columns; j++)
			memcpy(to + (j * rows + i) * bytes, from + (i * columns + j) * bytes, bytes);
}

// One row of output pixels. weights: [r,s,k]; y and x as the kind reads or writes them.
static void depthwise_row(const struct mp_conv *v, size_t sample, int p, char *x, char *weights, char *y)
{
	const struct loops *loops = loops_of(v);
	size_t bytes = type_bytes(v), count = (size_t)v->c, times = (size_t)(v->k / v->c);

	y += (sample * (size_t)v->p + (size_t)p) * (size_t)v->q * (size_t)v->k * bytes;
	x += sample * (size_t)v->h * (size_t)v->w * count * bytes;
	for (int q = 0; q < v->q; q++, y += (size_t)v->k * bytes)
		for (int tap = 0; tap < v->r * v->s; tap++) {
			int row = p * v->stride[0] + tap / v->s * v->dilation[0] - v->padding[0];
			int column = q * v->stride[1] + tap % v->s * v->dilation[1] - v->padding[1];
			if (row < 0 || row >= v->h || column < 0 || column >= v->w)
				continue;
			char *pixel = x + ((size_t)row * (size_t)v->w + (size_t)column) * count * bytes;
			char *weight = weights + (size_t)tap * (size_t)v->k * bytes;
			if (v->kind == MP_CONV_FORWARD)
				loops->scale(y, pixel, weight, count, times);
			else if (v->kind == MP_CONV_INPUT_GRAD)
				loops->reduce(pixel, y, weight, count, times);
			else
				loops->scale(weight, pixel, y, count, times);
		}
}

// The gradient of weights is summed within a row of pixels, then over the rows: one long sum would lose more digits.
static void depthwise_weight_gradient(const struct mp_conv *v, char *x, char *dw, char *y, char *scratch, bool accumulate)
{
	size_t taps = taps_of(v), count = taps * (size_t)v->k, bytes = count * type_bytes(v);
	char *sum = scratch, *row = scratch + bytes;

	memset(sum, 0, bytes);
	for (size_t i = 0; i < (size_t)v->n * (size_t)v->p; i++) {
		memset(row, 0, bytes);
		depthwise_row(v, i / (size_t)v->p, (int)(i % (size_t)v->p), x, row, y);
		loops_of(v)->add(sum, row, count);
	}
	transpose(v, sum, row, taps, (size_t)v->k);
	if (!accumulate)
		memset(dw, 0, bytes);
	loops_of(v)->add(dw, row, count);
}

static void depthwise(const struct mp_conv *v, char *x, char *w, char *y, const char *bias, char *scratch)
{
	transpose(v, w, scratch, (size_t)v->k, taps_of(v));
	if (v->kind == MP_CONV_FORWARD)
		memset(y, 0, output_pixels(v) * (size_t)v->k * type_bytes(v));
	else
		memset(x, 0, image_bytes(v));
	for (size_t i = 0; i < (size_t)v->n * (size_t)v->p; i++)
		depthwise_row(v, i / (size_t)v->p, (int)(i % (size_t)v->p), x, scratch, y);
	add_bias(v, y, bias, output_pixels(v));
}

// ---------------------------------------------------------------------------------------------------------

// The operands as the forward convolution names them; the kind says which of them is written.
static void run_conv(void *closure)
{
	const struct conv_call *call = closure;
	const struct mp_conv *v = call->conv;
	char *a = (char *)call->a, *b = (char *)call->b, *result = call->result;
	char *x = v->kind == MP_CONV_FORWARD ? a : v->kind == MP_CONV_INPUT_GRAD ? result : b;
	char *w = v->kind == MP_CONV_WEIGHT_GRAD ? result : b;
	char *y = v->kind == MP_CONV_FORWARD ? result : a;

	if (!is_depthwise(v))
		multiply_tiles(v, x, w, y, call);
	else if (v->kind == MP_CONV_WEIGHT_GRAD)
		depthwise_weight_gradient(v, x, w, y, call->scratch, call->accumulate);
	else
		depthwise(v, x, w, y, call->bias, call->scratch);
}

void mp_conv(struct mp_rank *r, const struct mp_conv *conv, const void *a, const void *b, const void *bias, void *result,
             bool accumulate, cudaStream_t stream)
{
	struct conv_call call = {conv, a, b, conv->bias ? bias : NULL, result, r->conv_plans->scratch, accumulate};
	mp_host_enqueue(stream, conv->name, run_conv, &call, sizeof call);
}

static size_t scratch_bytes(const struct mp_conv *v)
{
	if (is_depthwise(v))
		return 2 * (size_t)v->k * taps_of(v) * type_bytes(v);
	return is_product(v) ? 0 : tile_rows(v) * window(v) * type_bytes(v);
}

// mp_gemm_prepare made OpenBLAS use one thread.
void mp_conv_prepare(struct mp_rank *r)
{
	size_t bytes = 0;
	for (int i = 0; i < r->program->conv_count; i++) {
		size_t own = scratch_bytes(&r->program->convs[i]);
		bytes = own > bytes ? own : bytes;
	}
	r->conv_plans = malloc(sizeof *r->conv_plans);
	char *scratch = aligned_alloc(64, (bytes + 63) / 64 * 64 + 64);
	if (!r->conv_plans || !scratch) {
		fprintf(stderr, "mp_host: no memory for %zu bytes of a tile of a convolution\n", bytes);
		abort();
	}
	r->conv_plans->scratch = scratch;
}

void mp_conv_release(struct mp_rank *r)
{
	free(r->conv_plans->scratch);
	free(r->conv_plans);
}
