// conv_cases.h: convolutions, and what they give by seven loops in double precision. For the mp_conv of the host and, by
// tests/gpu/conv_test.c, of GPUs. Whoever includes it has CHECK and mp.h.
#ifndef CONV_CASES_H
#define CONV_CASES_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

// Extents, n to s; stride, padding and dilation of height and width; groups.
static const int conv_shapes[][14] = {
	{2, 5, 6, 3, 4, 3, 3, 1, 1, 1, 1, 1, 1, 1},
	{1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1},
	{2, 7, 5, 4, 6, 1, 1, 1, 1, 0, 0, 1, 1, 1},     // a product of matrices
	{2, 7, 5, 4, 6, 1, 1, 1, 1, 0, 0, 1, 1, 2},
	{3, 8, 9, 4, 5, 1, 1, 2, 2, 0, 0, 1, 1, 1},     // skips pixels
	{2, 4, 4, 3, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1},     // outputs that see padding alone
	{1, 9, 7, 1, 3, 3, 3, 1, 1, 0, 0, 1, 1, 1},     // one channel
	{1, 28, 28, 1, 8, 5, 5, 1, 1, 2, 2, 1, 1, 1},
	{2, 11, 13, 3, 7, 5, 3, 2, 1, 2, 0, 1, 1, 1},   // windows that are not square
	{2, 11, 13, 3, 7, 2, 4, 3, 2, 0, 3, 1, 1, 1},
	{1, 6, 6, 2, 3, 2, 2, 2, 2, 0, 0, 1, 1, 1},     // windows beside each other
	{1, 7, 7, 2, 3, 2, 2, 3, 3, 0, 0, 1, 1, 1},     // pixels that no window sees
	{2, 12, 10, 4, 5, 3, 3, 1, 1, 2, 2, 2, 2, 1},
	{1, 12, 15, 3, 4, 3, 2, 2, 3, 4, 1, 3, 2, 1},
	{1, 3, 3, 2, 3, 3, 3, 1, 1, 2, 2, 1, 1, 1},     // more padding than keeps the extent
	{1, 5, 5, 2, 3, 3, 3, 2, 2, 3, 3, 1, 1, 1},
	{1, 2, 3, 2, 3, 2, 3, 1, 1, 0, 0, 1, 1, 1},     // one window in all
	{2, 6, 7, 6, 4, 3, 3, 1, 1, 1, 1, 1, 1, 2},
	{2, 6, 7, 6, 9, 3, 2, 2, 1, 1, 1, 1, 2, 3},
	{2, 8, 7, 8, 8, 3, 3, 1, 1, 1, 1, 1, 1, 8},     // depthwise
	{1, 9, 8, 5, 5, 5, 3, 2, 2, 2, 1, 1, 2, 5},
	{2, 6, 6, 4, 12, 3, 3, 1, 1, 1, 1, 1, 1, 4},    // three outputs of each channel
	{2, 30, 31, 16, 8, 3, 3, 1, 1, 1, 1, 1, 1, 1},  // several tiles, the last one smaller
	{2, 33, 29, 16, 8, 3, 3, 1, 1, 1, 1, 1, 1, 2},
	{1, 40, 40, 64, 16, 3, 3, 2, 2, 1, 1, 1, 1, 1},
	{4, 14, 14, 32, 32, 3, 3, 1, 1, 1, 1, 1, 1, 1},
	{3, 9, 10, 64, 96, 3, 3, 1, 1, 1, 1, 1, 1, 1},
	{2, 11, 8, 96, 32, 3, 2, 2, 1, 1, 0, 1, 2, 1},
};
enum { CONV_SHAPES = sizeof conv_shapes / sizeof *conv_shapes };

static inline struct mp_conv conv_of(const int *s, enum mp_conv_kind kind, enum mp_type type, bool tf32)
{
	struct mp_conv v = {"conv", kind, s[0], s[1], s[2], s[3], s[4], s[5], s[6], 0, 0, {s[7], s[8]}, {s[9], s[10]},
	                    {s[11], s[12]}, s[13], false, type, tf32, 16, 0};
	v.p = (v.h + 2 * v.padding[0] - v.dilation[0] * (v.r - 1) - 1) / v.stride[0] + 1;
	v.q = (v.w + 2 * v.padding[1] - v.dilation[1] * (v.s - 1) - 1) / v.stride[1] + 1;
	return v;
}

// Elements of x, w and y, and of what a kind reads and writes.
struct conv_counts {
	size_t x, w, y, a, b, result;
};

static inline struct conv_counts count_conv(const struct mp_conv *v)
{
	struct conv_counts n = {.x = (size_t)v->n * v->h * v->w * v->c, .w = (size_t)v->k * v->r * v->s * (v->c / v->groups),
	                        .y = (size_t)v->n * v->p * v->q * v->k};
	n.a = v->kind == MP_CONV_FORWARD ? n.x : n.y;
	n.b = v->kind == MP_CONV_WEIGHT_GRAD ? n.x : n.w;
	n.result = v->kind == MP_CONV_FORWARD ? n.y : v->kind == MP_CONV_INPUT_GRAD ? n.x : n.w;
	return n;
}

static inline double value_at(const void *x, enum mp_type type, size_t i)
{
	return type == MP_F64 ? ((const double *)x)[i] : (double)((const float *)x)[i];
}

static inline void put_value(void *x, enum mp_type type, size_t i, double value)
{
	if (type == MP_F64)
		((double *)x)[i] = value;
	else
		((float *)x)[i] = (float)value;
}

static inline void *random_values(enum mp_type type, size_t count, unsigned seed)
{
	void *x = malloc(count * sizeof(double));
	for (size_t i = 0; i < count; i++) {
		seed = seed * 1664525 + 1013904223;
		put_value(x, type, i, (double)(seed >> 8) / (1 << 23) - 1);
	}
	return x;
}

// Adds what one output element is made of, or gives, to value, and the magnitudes of these terms to magnitude.
static inline void add_terms(const struct mp_conv *v, const void *a, const void *b, int n, int p, int q, int k, double *value,
                             double *magnitude)
{
	int inputs = v->c / v->groups, first = k / (v->k / v->groups) * inputs;
	size_t y = (((size_t)n * v->p + p) * v->q + q) * v->k + k;
	for (int i = 0; i < v->r; i++)
		for (int j = 0; j < v->s; j++)
			for (int c = 0; c < inputs; c++) {
				int row = p * v->stride[0] + i * v->dilation[0] - v->padding[0];
				int column = q * v->stride[1] + j * v->dilation[1] - v->padding[1];
				if (row < 0 || row >= v->h || column < 0 || column >= v->w)
					continue;
				size_t x = (((size_t)n * v->h + row) * v->w + column) * v->c + first + c;
				size_t w = (((size_t)k * v->r + i) * v->s + j) * inputs + c;
				size_t of_a = v->kind == MP_CONV_FORWARD ? x : y, of_b = v->kind == MP_CONV_WEIGHT_GRAD ? x : w;
				size_t to = v->kind == MP_CONV_FORWARD ? y : v->kind == MP_CONV_INPUT_GRAD ? x : w;
				double term = value_at(a, v->type, of_a) * value_at(b, v->type, of_b);
				value[to] += term;
				magnitude[to] += fabs(term);
			}
}

// Fails unless got is the convolution, within `precision` of the sum of the magnitudes of all terms of an element.
static inline void check_conv_result(const struct mp_conv *v, const void *a, const void *b, const void *bias,
                                     const void *before, bool accumulate, const void *got, double precision)
{
	size_t count = count_conv(v).result;
	double *value = calloc(count, sizeof *value), *magnitude = calloc(count, sizeof *magnitude);
	for (int n = 0; n < v->n; n++)
		for (int p = 0; p < v->p; p++)
			for (int q = 0; q < v->q; q++)
				for (int k = 0; k < v->k; k++)
					add_terms(v, a, b, n, p, q, k, value, magnitude);
	for (size_t i = 0; i < count; i++) {
		double more = accumulate ? value_at(before, v->type, i) : v->bias ? value_at(bias, v->type, i % v->k) : 0;
		double want = value[i] + more, limit = precision * (magnitude[i] + fabs(more)), is = value_at(got, v->type, i);
		CHECK(fabs(is - want) <= limit,
		      "kind %d type %d tf32 %d, n %d %dx%dx%d -> %dx%dx%d, window %dx%d, stride %d,%d padding %d,%d dilation %d,%d "
		      "groups %d bias %d accumulate %d: element %zu of %zu is %.9g, expected %.9g +- %.2g", v->kind, v->type, v->tf32, v->n,
		      v->h, v->w, v->c, v->p, v->q, v->k, v->r, v->s, v->stride[0], v->stride[1], v->padding[0], v->padding[1],
		      v->dilation[0], v->dilation[1], v->groups, v->bias, accumulate, i, count, is, want, limit);
	}
	free(value);
	free(magnitude);
}

#endif
