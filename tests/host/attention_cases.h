// attention_cases.h: attentions that the tests of mp_attention try, and what they should give, by plain loops in double
// precision. C and C++. CHECK is the test's own.
#ifndef ATTENTION_CASES_H
#define ATTENTION_CASES_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "mp.h"
#include "mp_philox.h"

// tokens, batch, groups, queries, size: one token; less than a tile; tiles that are not full; groups of several queries; small,
// odd and large heads; heads of 64 in one block of 128 tokens and in several.
static const int attention_shapes[][5] = {
	{1, 2, 3, 1, 8}, {5, 1, 1, 1, 8}, {17, 2, 2, 3, 24}, {64, 3, 2, 1, 64}, {100, 2, 1, 3, 40}, {128, 1, 3, 1, 16},
	{200, 2, 1, 2, 128}, {257, 1, 2, 2, 72}, {300, 1, 1, 1, 96}, {128, 2, 2, 1, 64}, {385, 1, 3, 2, 64},
};
enum { ATTENTION_SHAPES = sizeof attention_shapes / sizeof *attention_shapes };

// Dropout, as of the second of two devices that share the heads and the third micro-batch: what it draws from.
static const int attention_key[4] = {123456789, -7, 3, 0};
static const unsigned attention_layer = 0x9abcdef0u;
static inline int all_heads(const struct mp_attention *a) { return 2 * a->groups * a->queries; }
static inline long first_head(const struct mp_attention *a) { return a->groups * a->queries; }
static inline long first_sample(const struct mp_attention *a) { return 2 * a->batch; }

static inline struct mp_dropped dropped_of(const struct mp_attention *a, const int *key_on_device)
{
	struct mp_dropped dropped = {key_on_device, attention_layer, first_sample(a), first_head(a)};
	return dropped;
}

static inline struct mp_attention attention_of(const int shape[5], bool gradient, enum mp_type type, double dropout)
{
	struct mp_attention a = {.name = "attention", .gradient = gradient, .tokens = shape[0], .batch = shape[1], .groups = shape[2],
	                         .queries = shape[3], .size = shape[4], .slice = shape[1] * shape[2], .any_order = false, .dropout = dropout, .heads = 0, .type = type, .alignment = 16};
	a.heads = all_heads(&a);
	return a;
}

static inline size_t attention_bytes(enum mp_type type)
{
	return type == MP_F64 ? 8 : type == MP_F32 ? 4 : 2;
}

// Elements of qkv, of o, and of lse.
static inline size_t count_qkv(const struct mp_attention *a)
{
	return (size_t)a->tokens * a->batch * a->groups * (a->queries + 2) * a->size;
}

static inline size_t count_o(const struct mp_attention *a)
{
	return (size_t)a->tokens * a->batch * a->groups * a->queries * a->size;
}

static inline size_t count_lse(const struct mp_attention *a)
{
	return (size_t)a->tokens * a->batch * a->groups * a->queries;
}

static inline double element(const void *x, enum mp_type type, size_t i)
{
	if (type == MP_F64)
		return ((const double *)x)[i];
	if (type == MP_F32)
		return (double)((const float *)x)[i];
	uint32_t bits = (uint32_t)((const uint16_t *)x)[i] << 16;
	float value;
	memcpy(&value, &bits, sizeof value);
	return (double)value;
}

static inline void put_element(void *x, enum mp_type type, size_t i, double value)
{
	float small = (float)value;
	uint32_t bits;
	memcpy(&bits, &small, sizeof bits);
	if (type == MP_F64)
		((double *)x)[i] = value;
	else if (type == MP_F32)
		((float *)x)[i] = small;
	else
		((uint16_t *)x)[i] = (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// Between -2 and 2, each type's own.
static inline void *random_elements(enum mp_type type, size_t count, unsigned seed)
{
	void *x = malloc(count * attention_bytes(type));
	for (size_t i = 0; i < count; i++) {
		seed = seed * 1664525 + 1013904223;
		put_element(x, type, i, (double)(seed >> 8) / (1 << 22) - 2);
	}
	return x;
}

// What attention and its gradient give.
struct attention_result {
	double *o, *lse, *dqkv;
};

// Where element 0 of a head lies in a tensor with so many heads in a group, and how far the next token's is.
static inline size_t head_at(const struct mp_attention *a, int heads, int token, int unit, int head)
{
	return (((size_t)token * a->batch * a->groups + unit) * heads + head) * a->size;
}

static inline double dot(const struct mp_attention *a, const void *x, size_t i, const void *y, size_t j)
{
	double sum = 0;
	for (int d = 0; d < a->size; d++)
		sum += element(x, a->type, i + d) * element(y, a->type, j + d);
	return sum;
}

// What the weight of key s is multiplied with. 8 keys share a random number, each has 16 bits of it; rows of keys begin with a new
// one.
static inline double kept_share(const struct mp_attention *a, int unit, int head, int t, int s)
{
	uint64_t sample = first_sample(a) + unit / a->groups, global = first_head(a) + unit % a->groups * a->queries + head;
	uint64_t number = ((sample * all_heads(a) + global) * a->tokens + t) * ((a->tokens + 7) / 8) + s / 8;
	uint32_t counter[4] = {(uint32_t)number, (uint32_t)(number >> 32), (uint32_t)attention_key[2], (uint32_t)attention_key[3]};
	uint32_t key[2] = {(uint32_t)attention_key[0] ^ attention_layer, (uint32_t)attention_key[1]}, word[4];
	mp_philox(counter, key, word);
	uint16_t bits = (uint16_t)(word[s % 8 / 2] >> (s % 2 ? 16 : 0));
	return a->dropout == 0 ? 1 : bits >= a->dropout * 65536 ? 1 / (1 - a->dropout) : 0;
}

// One query of one head: p holds a value for each token.
static inline void attend(const struct mp_attention *a, const void *qkv, const void *d_o, struct attention_result *r, double *p,
                          int unit, int head, int t)
{
	int packed = a->queries + 2;
	size_t q = head_at(a, packed, t, unit, head), o = head_at(a, a->queries, t, unit, head);
	double scale = 1 / sqrt(a->size), most = -INFINITY, sum = 0, delta = 0;
	for (int s = 0; s <= t; s++) {
		p[s] = scale * dot(a, qkv, q, qkv, head_at(a, packed, s, unit, a->queries));
		most = p[s] > most ? p[s] : most;
	}
	for (int s = 0; s <= t; s++)
		sum += exp(p[s] - most);
	r->lse[((size_t)unit * a->queries + head) * a->tokens + t] = most + log(sum);
	for (int s = 0; s <= t; s++) {
		size_t v = head_at(a, packed, s, unit, a->queries + 1);
		double kept = kept_share(a, unit, head, t, s);
		p[s] = exp(p[s] - most) / sum;
		for (int d = 0; d < a->size; d++)
			r->o[o + d] += p[s] * kept * element(qkv, a->type, v + d);
	}
	for (int d = 0; d < a->size; d++)
		delta += r->o[o + d] * element(d_o, a->type, o + d);
	for (int s = 0; s <= t; s++) {
		size_t k = head_at(a, packed, s, unit, a->queries), v = head_at(a, packed, s, unit, a->queries + 1);
		double kept = kept_share(a, unit, head, t, s), ds = p[s] * (kept * dot(a, d_o, o, qkv, v) - delta) * scale;
		for (int d = 0; d < a->size; d++) {
			r->dqkv[v + d] += p[s] * kept * element(d_o, a->type, o + d);
			r->dqkv[q + d] += ds * element(qkv, a->type, k + d);
			r->dqkv[k + d] += ds * element(qkv, a->type, q + d);
		}
	}
}

static inline double *zeros(size_t count)
{
	return (double *)calloc(count, sizeof(double));
}

static inline struct attention_result expect_attention(const struct mp_attention *a, const void *qkv, const void *d_o)
{
	struct attention_result r = {zeros(count_o(a)), zeros(count_lse(a)), zeros(count_qkv(a))};
	double *p = zeros((size_t)a->tokens);
	for (int unit = 0; unit < a->batch * a->groups; unit++)
		for (int head = 0; head < a->queries; head++)
			for (int t = 0; t < a->tokens; t++)
				attend(a, qkv, d_o, &r, p, unit, head, t);
	free(p);
	return r;
}

static inline void free_attention(struct attention_result *r)
{
	free(r->o);
	free(r->lse);
	free(r->dqkv);
}

// Fails unless each element is what is expected, within a share of the largest one.
static inline void check_elements(const struct mp_attention *a, const char *what, const double *expected, const void *got,
                                  enum mp_type type, size_t count, double share)
{
	double largest = 0;
	for (size_t i = 0; i < count; i++)
		largest = fabs(expected[i]) > largest ? fabs(expected[i]) : largest;
	for (size_t i = 0; i < count; i++) {
		double is = element(got, type, i);
		CHECK(fabs(is - expected[i]) <= share * largest, "%s of type %d, tokens %d batch %d groups %d queries %d size %d: element %zu of %zu is "
		      "%.9g, expected %.9g +- %.2g", what, a->type, a->tokens, a->batch, a->groups, a->queries, a->size, i, count, is, expected[i],
		      share * largest);
	}
}

#endif
