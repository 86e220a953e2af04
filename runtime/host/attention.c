// attention.c: mp_attention and mp_attention_grad on the CPU.
//
// Heads are computed one after another: the head's queries, keys and values are copied out of the packed tensor in the type
// that is computed in (f32 for bf16), and OpenBLAS multiplies. The matrix of scores is made for a tile of queries at a time,
// against the keys up to the tile's last query; what the mask hides within the tile is zero from the softmax on. The order of
// every sum depends on the shape alone, and one thread computes it. With dropout, what the weights of a tile are multiplied with
// is drawn anew wherever it is needed.
#include "bf16.h"
#include "mp_kept.h"
#include "mp_host.h"

#include <cblas.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void mp_attention_prepare(struct mp_rank *r);
void mp_attention_release(struct mp_rank *r);

enum { TILE = 128 };                    // queries

// A rank's thread executes each of its operations to the end, whatever their streams: they can share this.
struct mp_attention_plan {
	char *scratch;
};

// One head in the type that is computed in: matrices [tokens, size], scores [TILE, tokens], and a value for each token. The
// gradients of key and value are those of the whole group.
struct head {
	char *q, *k, *v, *o, *d_o, *dq, *dk, *dv, *scores, *d_scores, *kept, *delta, *lse;
	int unit, index;                        // of the query head, for dropout
	const struct mp_kept *dropout;          // NULL: all weights are kept
};

struct attention_call {
	const struct mp_attention *attention;
	const char *d_o, *qkv, *o, *lse;        // forward: qkv alone
	char *out, *out_lse;                    // o and lse, or the gradient of qkv
	struct mp_dropped dropped;
	bool drops;
	char *scratch;
};

// ---------------------------------------------------------------------------------------------------------
// Loops over a tile of scores, for both types. Row i of the tile is query first + i, which attends to keys 0 .. first + i.

struct loops {
	// Scores to probabilities: exp(scale s - lse), zero behind the query; lse is computed first where it is not given.
	void (*softmax)(void *scores, void *lse, bool given, int rows, int first, int columns, double scale);
	// d_scores = scores (d_scores - delta) scale; with kept: (kept d_scores - delta).
	void (*gradient)(void *d_scores, const void *scores, const void *kept, const void *delta, int rows, int columns, double scale);
	// One row of what weights are multiplied with: 0, or `factor` where the number's bits reach the threshold.
	void (*draw)(void *kept, const struct mp_kept *dropout, uint64_t first, int columns, double factor);
	void (*product)(void *result, const void *a, const void *b, size_t n);
	void (*dot_rows)(void *result, const void *a, const void *b, int rows, int size);
};

#define LOOPS(TYPE, EXP, LOG) \
	static void softmax_##TYPE(void *tile, void *logs, bool given, int rows, int first, int columns, double factor) \
	{ \
		const TYPE scale = (TYPE)factor; \
		for (int i = 0; i < rows; i++) { \
			TYPE *restrict s = (TYPE *)tile + (size_t)i * (size_t)columns, *lse = (TYPE *)logs + i; \
			const int keys = first + i + 1; \
			if (!given) { \
				TYPE most = s[0], sum = 0; \
				for (int j = 1; j < keys; j++) \
					most = s[j] > most ? s[j] : most; \
				for (int j = 0; j < keys; j++) \
					sum += EXP((s[j] - most) * scale); \
				*lse = most * scale + LOG(sum); \
			} \
			for (int j = 0; j < keys; j++) \
				s[j] = EXP(s[j] * scale - *lse); \
			for (int j = keys; j < columns; j++) \
				s[j] = 0; \
		} \
	} \
	static void gradient_##TYPE(void *d_tile, const void *tile, const void *kept_tile, const void *deltas, int rows, int columns, \
	                            double factor) \
	{ \
		for (int i = 0; i < rows; i++) { \
			TYPE *restrict d = (TYPE *)d_tile + (size_t)i * (size_t)columns; \
			const TYPE *restrict p = (const TYPE *)tile + (size_t)i * (size_t)columns; \
			const TYPE delta = ((const TYPE *)deltas)[i], scale = (TYPE)factor; \
			if (kept_tile) { \
				const TYPE *restrict kept = (const TYPE *)kept_tile + (size_t)i * (size_t)columns; \
				for (int j = 0; j < columns; j++) \
					d[j] *= kept[j]; \
			} \
			for (int j = 0; j < columns; j++) \
				d[j] = p[j] * (d[j] - delta) * scale; \
		} \
	} \
	static void draw_##TYPE(void *row, const struct mp_kept *dropout, uint64_t first, int columns, double factor) \
	{ \
		TYPE *restrict kept = row; \
		uint32_t word[4][MP_PHILOX_STRIP]; \
		for (int j = 0; j < columns; j += MP_KEPT_KEYS * MP_PHILOX_STRIP) { \
			int left = columns - j, numbers = (left + MP_KEPT_KEYS - 1) / MP_KEPT_KEYS; \
			numbers = numbers < MP_PHILOX_STRIP ? numbers : MP_PHILOX_STRIP; \
			mp_kept_words(word, dropout, first + (uint64_t)(j / MP_KEPT_KEYS), numbers); \
			for (int e = 0; e < numbers * MP_KEPT_KEYS && e < left; e++) \
				kept[j + e] = mp_is_kept(dropout, word, e / MP_KEPT_KEYS, e % MP_KEPT_KEYS) ? (TYPE)factor : 0; \
		} \
	} \
	static void product_##TYPE(void *result, const void *left, const void *right, size_t n) \
	{ \
		TYPE *to = result; \
		const TYPE *a = left, *b = right; \
		for (size_t i = 0; i < n; i++) \
			to[i] = a[i] * b[i]; \
	} \
	static void dot_rows_##TYPE(void *result, const void *left, const void *right, int rows, int size) \
	{ \
		for (int i = 0; i < rows; i++) { \
			const TYPE *a = (const TYPE *)left + (size_t)i * (size_t)size, *b = (const TYPE *)right + (size_t)i * (size_t)size; \
			TYPE sum = 0; \
			for (int j = 0; j < size; j++) \
				sum += a[j] * b[j]; \
			((TYPE *)result)[i] = sum; \
		} \
	} \
	static const struct loops loops_##TYPE = {softmax_##TYPE, gradient_##TYPE, draw_##TYPE, product_##TYPE, dot_rows_##TYPE};

LOOPS(float, expf, logf)
LOOPS(double, exp, log)

// ---------------------------------------------------------------------------------------------------------
// Extents

static const struct loops *loops_of(const struct mp_attention *a)
{
	return a->type == MP_F64 ? &loops_double : &loops_float;
}

// Bytes of an element: in the scratch, and where it is stored.
static size_t full_bytes(const struct mp_attention *a)
{
	return a->type == MP_F64 ? sizeof(double) : sizeof(float);
}

static size_t real_bytes(const struct mp_attention *a)
{
	return a->type == MP_BF16 ? sizeof(mp_bf16) : full_bytes(a);
}

static size_t head_bytes(const struct mp_attention *a)
{
	return (size_t)a->tokens * (size_t)a->size * full_bytes(a);
}

static size_t tile_bytes(const struct mp_attention *a)
{
	return (size_t)TILE * (size_t)a->tokens * full_bytes(a);
}

static size_t scratch_bytes(const struct mp_attention *a)
{
	return 8 * head_bytes(a) + 3 * tile_bytes(a) + (size_t)a->tokens * full_bytes(a);
}

static struct head divide(const struct mp_attention *a, char *scratch)
{
	struct head h = {0};
	char **const matrices[] = {&h.q, &h.k, &h.v, &h.o, &h.d_o, &h.dq, &h.dk, &h.dv};
	for (size_t i = 0; i < 8; i++, scratch += head_bytes(a))
		*matrices[i] = scratch;
	h.scores = scratch;
	h.d_scores = scratch + tile_bytes(a);
	h.kept = h.d_scores + tile_bytes(a);
	h.delta = h.kept + tile_bytes(a);
	return h;
}

// ---------------------------------------------------------------------------------------------------------
// Heads in and out of tensors [tokens, batch, groups, heads, size]

static char *head_of(const struct mp_attention *a, const char *tensor, int heads, int unit, int head)
{
	return (char *)tensor + ((size_t)unit * (size_t)heads + (size_t)head) * (size_t)a->size * real_bytes(a);
}

static size_t token_bytes(const struct mp_attention *a, int heads)
{
	return (size_t)a->batch * (size_t)a->groups * (size_t)heads * (size_t)a->size * real_bytes(a);
}

static void load(const struct mp_attention *a, char *to, const char *from, size_t stride)
{
	size_t count = (size_t)a->size, bytes = count * full_bytes(a);
	for (int t = 0; t < a->tokens; t++, to += bytes, from += stride)
		if (a->type == MP_BF16)
			mp_bf16_widen((float *)(void *)to, (const mp_bf16 *)(const void *)from, count);
		else
			memcpy(to, from, bytes);
}

static void store(const struct mp_attention *a, char *to, const char *from, size_t stride)
{
	size_t count = (size_t)a->size, bytes = count * full_bytes(a);
	for (int t = 0; t < a->tokens; t++, to += stride, from += bytes)
		if (a->type == MP_BF16)
			mp_bf16_round((mp_bf16 *)(void *)to, (const float *)(const void *)from, count);
		else
			memcpy(to, from, bytes);
}

// ---------------------------------------------------------------------------------------------------------

// C[m,n] = op(A) op(B), or += with accumulate; row-major. k is the summed extent.
static void multiply(const struct mp_attention *a, enum mp_transpose transpose, int m, int n, int k, const void *left,
                     const void *right, bool accumulate, void *result)
{
	CBLAS_TRANSPOSE tl = transpose == MP_TN ? CblasTrans : CblasNoTrans, tr = transpose == MP_NT ? CblasTrans : CblasNoTrans;
	int ldl = transpose == MP_TN ? m : k, ldr = transpose == MP_NT ? k : n;
	if (a->type == MP_F64)
		cblas_dgemm(CblasRowMajor, tl, tr, m, n, k, 1, left, ldl, right, ldr, accumulate, result, n);
	else
		cblas_sgemm(CblasRowMajor, tl, tr, m, n, k, 1, left, ldl, right, ldr, accumulate, result, n);
}

static void draw_tile(const struct mp_attention *a, const struct head *h, int first, int rows, int keys)
{
	for (int i = 0; i < rows; i++)
		loops_of(a)->draw(h->kept + (size_t)i * (size_t)keys * full_bytes(a), h->dropout, mp_kept_number(h->dropout, h->unit, h->index, first + i),
		                  keys, 1 / (1 - a->dropout));
}

// Tile by tile: the scores of its queries, then what they are for. In the gradient lse is given.
static void each_tile(const struct mp_attention *a, const struct head *h, bool given,
                      void (*use)(const struct mp_attention *a, const struct head *h, int first, int rows))
{
	size_t row = (size_t)a->size * full_bytes(a);
	for (int first = 0; first < a->tokens; first += TILE) {
		int rows = a->tokens - first < TILE ? a->tokens - first : TILE, keys = first + rows;
		multiply(a, MP_NT, rows, keys, a->size, h->q + (size_t)first * row, h->k, false, h->scores);
		loops_of(a)->softmax(h->scores, h->lse + (size_t)first * full_bytes(a), given, rows, first, keys, 1 / sqrt(a->size));
		if (h->dropout)
			draw_tile(a, h, first, rows, keys);
		use(a, h, first, rows);
	}
}

static void forward_tile(const struct mp_attention *a, const struct head *h, int first, int rows)
{
	char *o = h->o + (size_t)first * (size_t)a->size * full_bytes(a);
	if (h->dropout)
		loops_of(a)->product(h->scores, h->scores, h->kept, (size_t)rows * (size_t)(first + rows));
	multiply(a, MP_NN, rows, a->size, first + rows, h->scores, h->v, false, o);
}

static void gradient_tile(const struct mp_attention *a, const struct head *h, int first, int rows)
{
	size_t begin = (size_t)first * (size_t)a->size * full_bytes(a);
	int keys = first + rows;
	if (h->dropout)
		loops_of(a)->product(h->d_scores, h->scores, h->kept, (size_t)rows * (size_t)keys);
	multiply(a, MP_TN, keys, a->size, rows, h->dropout ? h->d_scores : h->scores, h->d_o + begin, true, h->dv);
	multiply(a, MP_NT, rows, keys, a->size, h->d_o + begin, h->v, false, h->d_scores);
	loops_of(a)->gradient(h->d_scores, h->scores, h->dropout ? h->kept : NULL, h->delta + (size_t)first * full_bytes(a), rows, keys,
	                      1 / sqrt(a->size));
	multiply(a, MP_NN, rows, a->size, keys, h->d_scores, h->k, false, h->dq + begin);
	multiply(a, MP_TN, keys, a->size, rows, h->d_scores, h->q + begin, true, h->dk);
}

static void forward_group(const struct attention_call *call, struct head *h, int unit)
{
	const struct mp_attention *a = call->attention;
	for (int i = 0; i < a->queries; i++) {
		h->index = i;
		load(a, h->q, head_of(a, call->qkv, a->queries + 2, unit, i), token_bytes(a, a->queries + 2));
		h->lse = call->out_lse + ((size_t)unit * (size_t)a->queries + (size_t)i) * (size_t)a->tokens * full_bytes(a);
		each_tile(a, h, false, forward_tile);
		store(a, head_of(a, call->out, a->queries, unit, i), h->o, token_bytes(a, a->queries));
	}
}

static void gradient_group(const struct attention_call *call, struct head *h, int unit)
{
	const struct mp_attention *a = call->attention;
	int packed = a->queries + 2;
	memset(h->dk, 0, head_bytes(a));
	memset(h->dv, 0, head_bytes(a));
	for (int i = 0; i < a->queries; i++) {
		h->index = i;
		load(a, h->q, head_of(a, call->qkv, packed, unit, i), token_bytes(a, packed));
		load(a, h->o, head_of(a, call->o, a->queries, unit, i), token_bytes(a, a->queries));
		load(a, h->d_o, head_of(a, call->d_o, a->queries, unit, i), token_bytes(a, a->queries));
		h->lse = (char *)call->lse + ((size_t)unit * (size_t)a->queries + (size_t)i) * (size_t)a->tokens * full_bytes(a);
		loops_of(a)->dot_rows(h->delta, h->d_o, h->o, a->tokens, a->size);
		each_tile(a, h, true, gradient_tile);
		store(a, head_of(a, call->out, packed, unit, i), h->dq, token_bytes(a, packed));
	}
	store(a, head_of(a, call->out, packed, unit, a->queries), h->dk, token_bytes(a, packed));
	store(a, head_of(a, call->out, packed, unit, a->queries + 1), h->dv, token_bytes(a, packed));
}

static void run_attention(void *closure)
{
	const struct attention_call *call = closure;
	const struct mp_attention *a = call->attention;
	struct head h = divide(a, call->scratch);
	struct mp_kept kept = mp_kept_of(a, &call->dropped);
	h.dropout = call->drops ? &kept : NULL;
	int packed = a->queries + 2;
	for (int unit = 0; unit < a->batch * a->groups; unit++) {
		h.unit = unit;
		load(a, h.k, head_of(a, call->qkv, packed, unit, a->queries), token_bytes(a, packed));
		load(a, h.v, head_of(a, call->qkv, packed, unit, a->queries + 1), token_bytes(a, packed));
		if (a->gradient)
			gradient_group(call, &h, unit);
		else
			forward_group(call, &h, unit);
	}
}

void mp_attention(struct mp_rank *r, const struct mp_attention *attention, const void *qkv, void *o, void *lse, struct mp_dropped dropped,
                  cudaStream_t stream)
{
	struct attention_call call = {.attention = attention, .qkv = qkv, .out = o, .out_lse = lse, .dropped = dropped,
	                              .drops = attention->dropout > 0 && !r->evaluating, .scratch = r->attention_plans->scratch};
	mp_host_enqueue(stream, attention->name, run_attention, &call, sizeof call);
}

void mp_attention_grad(struct mp_rank *r, const struct mp_attention *attention, const void *d_o, const void *qkv, const void *o,
                       const void *lse, void *dqkv, struct mp_dropped dropped, cudaStream_t stream)
{
	struct attention_call call = {.attention = attention, .d_o = d_o, .qkv = qkv, .o = o, .lse = lse, .out = dqkv, .dropped = dropped,
	                              .drops = attention->dropout > 0, .scratch = r->attention_plans->scratch};
	mp_host_enqueue(stream, attention->name, run_attention, &call, sizeof call);
}

// mp_gemm_prepare made OpenBLAS use one thread.
void mp_attention_prepare(struct mp_rank *r)
{
	size_t bytes = 0;
	for (int i = 0; i < r->program->attention_count; i++) {
		size_t own = scratch_bytes(&r->program->attentions[i]);
		bytes = own > bytes ? own : bytes;
	}
	r->attention_plans = malloc(sizeof *r->attention_plans);
	char *scratch = aligned_alloc(64, (bytes + 63) / 64 * 64 + 64);
	if (!r->attention_plans || !scratch) {
		fprintf(stderr, "mp_host: no memory for %zu bytes of a head of attention\n", bytes);
		abort();
	}
	r->attention_plans->scratch = scratch;
}

void mp_attention_release(struct mp_rank *r)
{
	free(r->attention_plans->scratch);
	free(r->attention_plans);
}
