// mp_attention and mp_attention_grad in bf16 on GPUs: cuDNN's fused attention, described operation by operation: its engines know
// the patterns below and never store the scores. (The descriptors for whole attentions of cuDNN 9.19 have no causal mask.) Everything
// that takes time or choice happens once, at start. Some gradients have a kernel of our own (attention_sm90.h), which is a further
// engine where runs may differ in their last bits, and the engine where they may not.
//
// To cuDNN a pair of a sample and a group is a sample (a unit here) with `queries` heads for queries and one for keys and values:
// then all strides of the packed tensor are those of one unit, and nothing is permuted or copied. Keys and values that serve as
// the second factor of a product with the other orientation are described transposed.
//
// The gradient goes through the units in slices, because the deterministic algorithm wants a matrix of scores for each head: as
// many at once as the table says (gen/plan/attention.c), or fewer should this cuDNN need more of the workspace than that counts
// on. What remains at the end has a plan of its own. With dropout both directions go in slices, because cuDNN takes a mask of 0 and 1
// as large as the scores; the scale of what is kept stands apart, so that it is not rounded. Its gradient's delta is summed from a
// copy of o that is scaled already (attention_mask.cu says why).
//
// Where runs may differ in their last bits, each engine that cuDNN proposes for a shape is timed at start by the first rank of each
// stage, and the stage's other ranks take the same: replicated values must not drift apart.
#include "attention_mask.h"
#include "attention_sm90.h"
#include "dnn.h"
#include "mp_data.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Names of tensors within a graph.
enum id { ID_Q = 1, ID_K, ID_V, ID_O, ID_LSE, ID_D_O, ID_DQ, ID_DK, ID_DV, ID_DELTA, ID_DQ_SUM, ID_SCALE, ID_HIDDEN, ID_ONE,
          ID_MASK, ID_RAISE, ID_INSIDE = 100 };

// Engines for so many units at once, and for those that remain; or the kernel of our own, which needs none.
struct engines {
	struct mp_dnn_engine whole, rest;
	int slice;
	bool atomics, own;
	bool borrowed;                          // of an earlier entry of the table, which is the same
};

struct mp_attention_plan {
	struct mp_dnn dnn;
	struct engines *engines;                // one for each of program->attentions
};

static void describe_attention(char *text, size_t size, const void *call)
{
	const struct mp_attention *a = call;
	snprintf(text, size, "attention %s (%s, %d tokens, batch %d, %d groups of %d query heads, %d elements each, bf16%s)", a->name,
	         a->gradient ? "gradient" : "forward", a->tokens, a->batch, a->groups, a->queries, a->size, a->dropout > 0 ? ", dropout" : "");
}

static struct mp_dnn_subject subject(const struct mp_attention *a)
{
	return (struct mp_dnn_subject){a, describe_attention};
}

// ---------------------------------------------------------------------------------------------------------
// Tensors

// The graph under construction, with what every tensor of it needs.
struct building {
	struct mp_dnn_graph g;
	const struct mp_attention *a;
	int64_t units;                          // of the slice
	int64_t inside;                         // name of the next virtual tensor
};

static mp_descriptor tensor(struct building *b, enum mp_dnn_kind kind, cudnnDataType_t type, int64_t id, int64_t heads, int64_t rows,
                            int64_t columns, const int64_t *strides)
{
	const int64_t extents[] = {b->units, heads, rows, columns};
	return mp_dnn_tensor(&b->g, kind, type, id, 4, extents, strides);
}

// A virtual tensor, dense.
static mp_descriptor inside(struct building *b, cudnnDataType_t type, int64_t heads, int64_t rows, int64_t columns)
{
	const int64_t strides[] = {heads * rows * columns, rows * columns, columns, 1};
	return tensor(b, MP_DNN_VIRTUAL, type, b->inside++, heads, rows, columns, strides);
}

static mp_descriptor scores(struct building *b, cudnnDataType_t type)
{
	return inside(b, type, b->a->queries, b->a->tokens, b->a->tokens);
}

// Scores transposed, in bf16: the first factor of a product over queries.
static mp_descriptor turned_scores(struct building *b)
{
	int64_t t = b->a->tokens, q = b->a->queries;
	const int64_t strides[] = {q * t * t, t * t, 1, t};
	return tensor(b, MP_DNN_VIRTUAL, CUDNN_DATA_BFLOAT16, b->inside++, q, t, t, strides);
}

// Elements of a row of the mask.
static int64_t mask_row(const struct mp_attention *a)
{
	return (a->tokens + 7) / 8 * 8;
}

static int64_t token_stride(const struct mp_attention *a, int64_t heads)
{
	return (int64_t)a->batch * a->groups * heads * a->size;
}

// Heads of a tensor whose groups have `packed` of them.
static mp_descriptor heads_of(struct building *b, enum id id, int64_t heads, int64_t packed)
{
	const int64_t strides[] = {packed * b->a->size, b->a->size, token_stride(b->a, packed), 1};
	return tensor(b, MP_DNN_REAL, CUDNN_DATA_BFLOAT16, id, heads, b->a->tokens, b->a->size, strides);
}

// The result of these units alone, as mp_attention_scale() leaves it.
static mp_descriptor scaled_heads(struct building *b)
{
	int64_t size = b->a->size, unit = b->a->queries * size;
	const int64_t strides[] = {unit, size, b->units * unit, 1};
	return tensor(b, MP_DNN_REAL, CUDNN_DATA_BFLOAT16, ID_O, b->a->queries, b->a->tokens, size, strides);
}

static mp_descriptor packed_heads(struct building *b, enum id id)
{
	return heads_of(b, id, id == ID_Q || id == ID_DQ ? b->a->queries : 1, b->a->queries + 2);
}

// The key or value head, [size, tokens].
static mp_descriptor turned_head(struct building *b, enum id id)
{
	int64_t packed = b->a->queries + 2;
	const int64_t strides[] = {packed * b->a->size, b->a->size, 1, token_stride(b->a, packed)};
	return tensor(b, MP_DNN_REAL, CUDNN_DATA_BFLOAT16, id, 1, b->a->size, b->a->tokens, strides);
}

// A value in f32 for each query. Where a unit has an odd number of them, a slice does not begin at a multiple of 16 bytes.
static mp_descriptor of_rows(struct building *b, enum id id)
{
	int64_t t = b->a->tokens, q = b->a->queries;
	const int64_t strides[] = {q * t, t, 1, 1};
	if (q * t % 4)
		b->g.alignment = sizeof(float);
	mp_descriptor d = tensor(b, MP_DNN_REAL, CUDNN_DATA_FLOAT, id, q, t, 1, strides);
	b->g.alignment = b->a->alignment;
	return d;
}

static mp_descriptor scalar(struct building *b, enum id id)
{
	const int64_t ones[] = {1, 1, 1, 1};
	return mp_dnn_tensor(&b->g, MP_DNN_BY_VALUE, CUDNN_DATA_FLOAT, id, 4, ones, ones);
}

// ---------------------------------------------------------------------------------------------------------
// Operations

static void multiply(struct building *b, mp_descriptor left, mp_descriptor right, mp_descriptor product)
{
	cudnnDataType_t type = CUDNN_DATA_FLOAT;
	mp_descriptor how = mp_dnn_create(&b->g, CUDNN_BACKEND_MATMUL_DESCRIPTOR);
	mp_dnn_set(&b->g, how, CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
	mp_dnn_finish(&b->g, how);
	mp_descriptor d = mp_dnn_create(&b->g, CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
	mp_dnn_set_part(&b->g, d, CUDNN_ATTR_OPERATION_MATMUL_ADESC, left);
	mp_dnn_set_part(&b->g, d, CUDNN_ATTR_OPERATION_MATMUL_BDESC, right);
	mp_dnn_set_part(&b->g, d, CUDNN_ATTR_OPERATION_MATMUL_CDESC, product);
	mp_dnn_set_part(&b->g, d, CUDNN_ATTR_OPERATION_MATMUL_DESC, how);
	mp_dnn_finish_operation(&b->g, d);
}

// Over the dims in which `to` has an extent of 1.
static void reduce(struct building *b, cudnnReduceTensorOp_t operation, mp_descriptor from, mp_descriptor to)
{
	cudnnDataType_t type = CUDNN_DATA_FLOAT;
	mp_descriptor how = mp_dnn_create(&b->g, CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
	mp_dnn_set(&b->g, how, CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, 1, &operation);
	mp_dnn_set(&b->g, how, CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
	mp_dnn_finish(&b->g, how);
	mp_descriptor d = mp_dnn_create(&b->g, CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
	mp_dnn_set_part(&b->g, d, CUDNN_ATTR_OPERATION_REDUCTION_DESC, how);
	mp_dnn_set_part(&b->g, d, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, from);
	mp_dnn_set_part(&b->g, d, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, to);
	mp_dnn_finish_operation(&b->g, d);
}

static void reshape(struct building *b, mp_descriptor from, mp_descriptor to)
{
	mp_descriptor d = mp_dnn_create(&b->g, CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
	mp_dnn_set_part(&b->g, d, CUDNN_ATTR_OPERATION_RESHAPE_XDESC, from);
	mp_dnn_set_part(&b->g, d, CUDNN_ATTR_OPERATION_RESHAPE_YDESC, to);
	mp_dnn_finish_operation(&b->g, d);
}

// y = mode(left, right) in f32; right may be NULL.
static mp_descriptor compute_to(struct building *b, cudnnPointwiseMode_t mode, mp_descriptor left, mp_descriptor right, mp_descriptor y)
{
	mp_dnn_pointwise(&b->g, mode, CUDNN_DATA_FLOAT, left, right, NULL, y, -1);
	return y;
}

static mp_descriptor compute(struct building *b, cudnnPointwiseMode_t mode, mp_descriptor left, mp_descriptor right)
{
	return compute_to(b, mode, left, right, scores(b, CUDNN_DATA_FLOAT));
}

// Scores where the key is not behind the query, minus infinity elsewhere.
static mp_descriptor mask(struct building *b, mp_descriptor s)
{
	mp_descriptor query = scores(b, CUDNN_DATA_INT32), key = scores(b, CUDNN_DATA_INT32), seen = scores(b, CUDNN_DATA_BOOLEAN);
	mp_descriptor masked = scores(b, CUDNN_DATA_FLOAT);
	mp_dnn_pointwise(&b->g, CUDNN_POINTWISE_GEN_INDEX, CUDNN_DATA_FLOAT, s, NULL, NULL, query, 2);
	mp_dnn_pointwise(&b->g, CUDNN_POINTWISE_GEN_INDEX, CUDNN_DATA_FLOAT, s, NULL, NULL, key, 3);
	mp_dnn_pointwise(&b->g, CUDNN_POINTWISE_CMP_GE, CUDNN_DATA_BOOLEAN, query, key, NULL, seen, -1);
	mp_dnn_pointwise(&b->g, CUDNN_POINTWISE_BINARY_SELECT, CUDNN_DATA_FLOAT, s, scalar(b, ID_HIDDEN), seen, masked, -1);
	return masked;
}

// What weights are multiplied with, 0 or 1. Rows are whole multiples of 16 bytes.
static mp_descriptor drawn_mask(struct building *b)
{
	int64_t t = b->a->tokens, q = b->a->queries, row = mask_row(b->a);
	const int64_t strides[] = {q * t * row, t * row, row, 1};
	return tensor(b, MP_DNN_REAL, CUDNN_DATA_BFLOAT16, ID_MASK, q, t, t, strides);
}

static void forward(struct building *b)
{
	const struct mp_attention *a = b->a;
	mp_descriptor s = scores(b, CUDNN_DATA_FLOAT), most = inside(b, CUDNN_DATA_FLOAT, a->queries, a->tokens, 1);
	mp_descriptor sum = inside(b, CUDNN_DATA_FLOAT, a->queries, a->tokens, 1), log = inside(b, CUDNN_DATA_FLOAT, a->queries, a->tokens, 1);

	multiply(b, packed_heads(b, ID_Q), turned_head(b, ID_K), s);
	s = mask(b, compute(b, CUDNN_POINTWISE_MUL, s, scalar(b, ID_SCALE)));
	reduce(b, CUDNN_REDUCE_TENSOR_MAX, s, most);
	s = compute(b, CUDNN_POINTWISE_EXP, compute(b, CUDNN_POINTWISE_SUB, s, most), NULL);
	reduce(b, CUDNN_REDUCE_TENSOR_ADD, s, sum);
	compute_to(b, CUDNN_POINTWISE_LOG, sum, NULL, log);
	compute_to(b, CUDNN_POINTWISE_ADD, most, log, of_rows(b, ID_LSE));
	mp_descriptor p = scores(b, CUDNN_DATA_BFLOAT16);
	if (a->dropout > 0) {
		s = compute(b, CUDNN_POINTWISE_MUL, compute(b, CUDNN_POINTWISE_DIV, s, sum), scalar(b, ID_RAISE));
		compute_to(b, CUDNN_POINTWISE_MUL, s, drawn_mask(b), p);
	} else
		compute_to(b, CUDNN_POINTWISE_DIV, s, sum, p);
	multiply(b, p, packed_heads(b, ID_V), heads_of(b, ID_O, a->queries, a->queries));
}

// delta = the sums of d_o o over the elements of a head, where o is scaled by the share that dropout keeps: delta stands where raising
// follows. The engines want a factor in its place.
static mp_descriptor row_products(struct building *b, mp_descriptor d_o, mp_descriptor o)
{
	const struct mp_attention *a = b->a;
	int64_t t = a->tokens, q = a->queries, size = a->size;
	const int64_t strides[] = {q * t * size, t * size, q * size, 1};
	mp_descriptor products = tensor(b, MP_DNN_VIRTUAL, CUDNN_DATA_FLOAT, b->inside++, q, t, size, strides);
	mp_descriptor sums = inside(b, CUDNN_DATA_FLOAT, q, t, 1);
	compute_to(b, CUDNN_POINTWISE_MUL, d_o, o, products);
	reduce(b, CUDNN_REDUCE_TENSOR_ADD, products, sums);
	return compute_to(b, CUDNN_POINTWISE_MUL, sums, scalar(b, ID_ONE), of_rows(b, ID_DELTA));
}

// The gradient of the key or value head: scores^T rows, summed over the query heads of the group.
static void gradient_of_head(struct building *b, mp_descriptor s, mp_descriptor rows, enum id id)
{
	mp_descriptor turned = turned_scores(b), result = packed_heads(b, id);
	reshape(b, s, turned);
	if (b->a->queries == 1) {
		multiply(b, turned, rows, result);
		return;
	}
	mp_descriptor of_each = inside(b, CUDNN_DATA_BFLOAT16, b->a->queries, b->a->tokens, b->a->size);
	multiply(b, turned, rows, of_each);
	reduce(b, CUDNN_REDUCE_TENSOR_ADD, of_each, result);
}

// dq = ds k.
static void gradient_of_queries(struct building *b, mp_descriptor ds, mp_descriptor turned_k, bool atomics)
{
	const struct mp_attention *a = b->a;
	int64_t packed = a->queries + 2;
	const int64_t strides[] = {packed * a->size, a->size, token_stride(a, packed), 1};
	mp_descriptor k = tensor(b, MP_DNN_VIRTUAL, CUDNN_DATA_FLOAT, b->inside++, 1, a->tokens, a->size, strides);
	mp_descriptor dq = packed_heads(b, ID_DQ);
	reshape(b, turned_k, k);
	if (!atomics) {
		multiply(b, ds, k, dq);
		return;
	}
	const int64_t dense[] = {(int64_t)a->queries * a->tokens * a->size, (int64_t)a->tokens * a->size, a->size, 1};
	mp_descriptor sum = tensor(b, MP_DNN_REAL, CUDNN_DATA_FLOAT, ID_DQ_SUM, a->queries, a->tokens, a->size, dense);
	multiply(b, ds, k, sum);
	compute_to(b, CUDNN_POINTWISE_IDENTITY, sum, NULL, dq);
}

static void gradient(struct building *b, bool atomics)
{
	const struct mp_attention *a = b->a;
	mp_descriptor q = packed_heads(b, ID_Q), k = turned_head(b, ID_K), v = turned_head(b, ID_V), lse = of_rows(b, ID_LSE);
	mp_descriptor o = a->dropout > 0 ? scaled_heads(b) : heads_of(b, ID_O, a->queries, a->queries), d_o = heads_of(b, ID_D_O, a->queries, a->queries);
	mp_descriptor scale = scalar(b, ID_SCALE), delta = row_products(b, d_o, o), drawn = NULL, raise = NULL;
	mp_descriptor s = scores(b, CUDNN_DATA_FLOAT), ds = scores(b, CUDNN_DATA_FLOAT);

	multiply(b, q, k, s);
	s = compute(b, CUDNN_POINTWISE_SUB, compute(b, CUDNN_POINTWISE_MUL, s, scale), lse);
	mp_descriptor p = compute(b, CUDNN_POINTWISE_EXP, mask(b, s), NULL);
	mp_descriptor kept = p;
	if (a->dropout > 0) {
		drawn = drawn_mask(b);
		raise = scalar(b, ID_RAISE);
		kept = compute(b, CUDNN_POINTWISE_MUL, compute(b, CUDNN_POINTWISE_MUL, p, drawn), raise);
	}
	gradient_of_head(b, kept, d_o, ID_DV);
	multiply(b, d_o, v, ds);
	if (drawn)
		ds = compute(b, CUDNN_POINTWISE_MUL, ds, drawn);
	ds = compute(b, CUDNN_POINTWISE_MUL, compute(b, CUDNN_POINTWISE_SUB, ds, delta), p);
	if (drawn)
		ds = compute(b, CUDNN_POINTWISE_MUL, ds, raise);
	ds = compute(b, CUDNN_POINTWISE_MUL, ds, scale);
	gradient_of_head(b, ds, q, ID_DK);
	gradient_of_queries(b, ds, k, atomics);
}

// ---------------------------------------------------------------------------------------------------------
// Plans

static size_t aligned(size_t bytes)
{
	return (bytes + MP_ALIGN - 1) / MP_ALIGN * MP_ALIGN;
}

// What lies at the start of the workspace: the mask, the scaled copy of o, the gradient's delta, and the sums of dq that atomics make.
static size_t scaled_at(const struct mp_attention *a, int units)
{
	return a->dropout > 0 ? aligned((size_t)units * (size_t)a->queries * (size_t)a->tokens * (size_t)mask_row(a) * 2) : 0;
}

static size_t delta_at(const struct mp_attention *a, int units)
{
	bool copies = a->gradient && a->dropout > 0;
	return scaled_at(a, units) + (copies ? aligned((size_t)units * (size_t)a->queries * (size_t)a->tokens * (size_t)a->size * 2) : 0);
}

static size_t sums_at(const struct mp_attention *a, int units)
{
	return delta_at(a, units) + (a->gradient ? aligned((size_t)units * (size_t)a->queries * (size_t)a->tokens * sizeof(float)) : 0);
}

static size_t own_bytes(const struct mp_attention *a, int units, bool atomics)
{
	return sums_at(a, units) + (atomics ? aligned((size_t)units * (size_t)a->queries * (size_t)a->tokens * (size_t)a->size * sizeof(float)) : 0);
}

// The graph of so many units; end_description() takes it.
static struct building *describe(const struct mp_attention *a, int units, bool atomics, bool any_order)
{
	struct building *b = mp_allocate(sizeof *b);
	*b = (struct building){.a = a, .units = units, .inside = ID_INSIDE};
	b->g.of = subject(a);
	b->g.alignment = a->alignment;
	b->g.tensor_cores = true;
	b->g.any_order = any_order;
	if (a->gradient)
		gradient(b, atomics);
	else
		forward(b);
	return b;
}

static void end_description(struct building *b)
{
	mp_dnn_destroy(&b->g);
	free(b);
}

// An engine for so many units. The deterministic pattern is preferred with an engine that says so of itself.
static struct mp_dnn_engine plan_units(struct mp_rank *r, const struct mp_attention *a, int units, bool atomics, char *why)
{
	struct mp_dnn_engine e = {0};
	size_t own = own_bytes(a, units, atomics), all = r->program->workspace_bytes;
	if (own > all)
		return e;
	for (int any_order = a->any_order; any_order < 2 && !e.plan; any_order++) {
		struct building *b = describe(a, units, atomics, any_order);
		e = mp_dnn_plan(&r->attention_plans->dnn, &b->g, all - own, why);
		end_description(b);
	}
	return e;
}

// Engines for slices of so many units; false: there are none.
static bool plan_slices(struct mp_rank *r, const struct mp_attention *a, int slice, bool atomics, struct engines *e, char *why)
{
	struct mp_dnn_subject of = subject(a);
	int rest = a->batch * a->groups % slice;
	*e = (struct engines){.slice = slice, .atomics = atomics};
	e->whole = plan_units(r, a, slice, atomics, why);
	if (e->whole.plan && rest)
		e->rest = plan_units(r, a, rest, atomics, why);
	if (e->whole.plan && (!rest || e->rest.plan))
		return true;
	mp_dnn_forget(&of, &e->whole);
	return false;
}

// The kernel of our own, for as many units at once as the workspace has room for; false: it does not do this.
static bool plan_own(const struct mp_rank *r, const struct mp_attention *a, struct engines *e)
{
	int units = a->batch * a->groups;

	if (!mp_attention_sm90_takes(a))
		return false;
	while (units && mp_attention_sm90_bytes(a, units) > r->program->workspace_bytes)
		units /= 2;
	if (!units)
		return false;
	*e = (struct engines){.slice = units, .own = true};
	mp_attention_sm90_prepare();
	return true;
}

static void choose(struct mp_rank *r, const struct mp_attention *a, struct engines *e)
{
	char which[MP_DNN_TEXT], why[MP_DNN_TEXT] = "it proposes none";

	if (a->type != MP_BF16)
		mp_fail(MP_BUG, "attention %s: not in bf16", a->name);
	if (!a->any_order && plan_own(r, a, e))
		return;
	for (int atomics = a->any_order && a->gradient; atomics >= 0; atomics--) // what is to be deterministic remains so
		for (int slice = a->slice; slice > 0; slice /= 2)
			if (plan_slices(r, a, slice, atomics, e, why))
				return;
	describe_attention(which, sizeof which, a);
	mp_fail(MP_DEVICE_FAILED, "cuDNN %zu has no engine for %s within a workspace of %zu bytes: %s", cudnnGetVersion(), which,
	        r->program->workspace_bytes, why);
}

// ---------------------------------------------------------------------------------------------------------

// Memory beside the workspace for one call, in the fresh arena, whose operands overlap.
struct trial {
	char *at;
	size_t bytes;
};

static struct trial trial_of(const struct mp_rank *r, const struct mp_attention *a)
{
	const struct mp_program *p = r->program;
	size_t bytes = (size_t)a->tokens * (size_t)a->batch * (size_t)a->groups * (size_t)(a->queries + 2) * (size_t)a->size * 2;
	return (struct trial){bytes <= p->workspace_offset ? r->arena : r->arena + p->workspace_offset + p->workspace_bytes, bytes};
}

static void try_once(struct mp_rank *r, const struct mp_attention *a, char *at)
{
	struct mp_dropped dropped = {.key = (const int *)(const void *)at};

	if (a->gradient)
		mp_attention_grad(r, a, at, at, at, at, at, dropped, r->compute);
	else
		mp_attention(r, a, at, at, at, dropped, r->compute);
}

// Runs it once on zeros: its kernels are loaded then. Loaded later, they would wait for whatever the device does, which may be
// communication that waits for this rank. What it wrote is zeros again.
static void run_once(struct mp_rank *r, const struct mp_attention *a)
{
	struct trial trial = trial_of(r, a);

	try_once(r, a, trial.at);
	CUDA(cudaMemsetAsync(trial.at, 0, trial.bytes, r->compute));
}

// An earlier entry of the table that is the same but for its name; -1: none.
static int find_same(const struct mp_program *p, int i)
{
	const struct mp_attention *a = &p->attentions[i];
	for (int k = 0; k < i; k++) {
		const struct mp_attention *b = &p->attentions[k];
		if (a->gradient == b->gradient && a->tokens == b->tokens && a->batch == b->batch && a->groups == b->groups && a->queries == b->queries
		    && a->size == b->size && a->slice == b->slice && a->any_order == b->any_order && a->dropout == b->dropout && a->heads == b->heads
		    && a->alignment == b->alignment)
			return k;
	}
	return -1;
}

// ---------------------------------------------------------------------------------------------------------
// The fastest engine

// Choices: 0 for the first engine that works, from 1 on those that cuDNN proposes, OWN.
enum { CANDIDATES = 8, OWN, CHOICES = 64 };

// Milliseconds of one run, the median of several: on numbers of about 0.01, not on zeros, which cost less power than any others, and
// which are written anew each time, so that caches hold what they hold in a step: what was written last.
static float time_of(struct mp_rank *r, const struct mp_attention *a)
{
	enum { RUNS = 5, SMALL_NUMBER = 0x3c };
	struct trial trial = trial_of(r, a);
	cudaEvent_t begin, end;
	float ms[RUNS];

	CUDA(cudaEventCreate(&begin));
	CUDA(cudaEventCreate(&end));
	run_once(r, a);
	for (int i = 0; i < RUNS; i++) {
		CUDA(cudaMemsetAsync(trial.at, SMALL_NUMBER, trial.bytes, r->compute));
		CUDA(cudaEventRecord(begin, r->compute));
		try_once(r, a, trial.at);
		CUDA(cudaEventRecord(end, r->compute));
		CUDA(cudaEventSynchronize(end));
		CUDA(cudaEventElapsedTime(&ms[i], begin, end));
		for (int k = i; k > 0 && ms[k] < ms[k - 1]; k--) {
			float slower = ms[k - 1];
			ms[k - 1] = ms[k];
			ms[k] = slower;
		}
	}
	CUDA(cudaMemsetAsync(trial.at, 0, trial.bytes, r->compute));
	CUDA(cudaEventDestroy(begin));
	CUDA(cudaEventDestroy(end));
	return ms[RUNS / 2];
}

// The engines for whole slices among which one is chosen by time: their number, 0 where that is not for this call. What remains
// at the end takes the first engine.
static int find_candidates(struct mp_rank *r, const struct mp_attention *a, int only, struct mp_dnn_engine found[CANDIDATES], struct engines *e)
{
	char why[MP_DNN_TEXT];
	int rest = a->batch * a->groups % a->slice, count;

	*e = (struct engines){.slice = a->slice, .atomics = a->any_order && a->gradient};
	size_t own = own_bytes(a, a->slice, e->atomics), all = r->program->workspace_bytes;
	if (!a->any_order || own > all)
		return 0;
	if (rest)
		e->rest = plan_units(r, a, rest, e->atomics, why);
	if (rest && !e->rest.plan)
		return 0;
	struct building *b = describe(a, a->slice, e->atomics, true);
	count = mp_dnn_candidates(&r->attention_plans->dnn, &b->g, all - own, only, CANDIDATES, found);
	end_description(b);
	return count;
}

// Times the candidates and keeps the fastest. Gives the choice.
static unsigned char tune(struct mp_rank *r, const struct mp_attention *a, struct engines *e)
{
	struct mp_dnn_engine found[CANDIDATES] = {{0}};
	struct mp_dnn_subject of = subject(a);
	int best = -1;
	float least = INFINITY;
	struct engines own = {.own = false};
	if (a->any_order && plan_own(r, a, &own)) {
		*e = own;
		least = time_of(r, a);
	}
	int count = find_candidates(r, a, -1, found, e);

	for (int i = 0; i < count; i++) {
		if (!found[i].plan)
			continue;
		e->whole = found[i];
		float ms = time_of(r, a);
		if (ms < least) {
			least = ms;
			best = i;
		}
	}
	for (int i = 0; i < count; i++)
		if (i != best)
			mp_dnn_forget(&of, &found[i]);
	if (best >= 0) {
		e->whole = found[best];
		return (unsigned char)(best + 1);
	}
	mp_dnn_forget(&of, &e->rest);
	if (own.own) {
		*e = own;
		return OWN;
	}
	choose(r, a, e);
	return 0;
}

// Takes the engine that another rank found to be the fastest.
static void follow(struct mp_rank *r, const struct mp_attention *a, unsigned char choice, struct engines *e)
{
	struct mp_dnn_engine found[CANDIDATES] = {{0}};

	if (!choice) {
		choose(r, a, e);
		return;
	}
	if (choice == OWN) {
		if (!plan_own(r, a, e))
			mp_fail(MP_DEVICE_FAILED, "attention %s: this GPU is not of compute capability 9.0, as the stage's first rank's is", a->name);
		return;
	}
	if (find_candidates(r, a, choice - 1, found, e) < choice || !found[choice - 1].plan)
		mp_fail(MP_DEVICE_FAILED, "attention %s: engine %d of cuDNN %zu, which is rank %d's choice, does not work here", a->name, choice,
		        cudnnGetVersion(), r->pp * r->model->axis[MP_TP] * r->model->axis[MP_DP]);
	e->whole = found[choice - 1];
}

// The choices of each stage's first rank go to all its ranks.
static void agree(struct mp_rank *r, unsigned char choices[CHOICES])
{
	int ranks = r->model->axis[MP_TP] * r->model->axis[MP_DP]; // of a stage, one behind the other
	for (int stage = 0; stage * ranks < r->world; stage++) {
		unsigned char theirs[CHOICES];
		memcpy(theirs, choices, CHOICES);
		mp_broadcast(r, theirs, CHOICES, stage * ranks);
		if (stage == r->pp)
			memcpy(choices, theirs, CHOICES);
	}
}

static void prepare_engines(struct mp_rank *r, bool follows, unsigned char choices[CHOICES])
{
	const struct mp_program *p = r->program;

	for (int i = 0; i < p->attention_count; i++) {
		const struct mp_attention *a = &p->attentions[i];
		struct engines *e = &r->attention_plans->engines[i];
		int same = find_same(p, i);
		if (same >= 0) {
			*e = r->attention_plans->engines[same];
			e->borrowed = true;
			continue;
		}
		if (follows)
			follow(r, a, i < CHOICES ? choices[i] : 0, e);
		else if (i < CHOICES)
			choices[i] = tune(r, a, e);
		else
			choose(r, a, e);
		run_once(r, a);
	}
}

void mp_attention_prepare(struct mp_rank *r)
{
	const struct mp_program *p = r->program;
	unsigned char choices[CHOICES] = {0};
	bool follows = r->dp > 0 || r->tp > 0;

	r->attention_plans = mp_allocate(sizeof *r->attention_plans);
	if (p->attention_count) {
		struct mp_dnn_subject first = subject(p->attentions);
		mp_dnn_open(&r->attention_plans->dnn, &first, r->compute);
		mp_attention_mask_prepare();
		r->attention_plans->engines = mp_allocate((size_t)p->attention_count * sizeof *r->attention_plans->engines);
	}
	if (!follows)
		prepare_engines(r, false, choices);
	if (r->world > 1)
		agree(r, choices);
	if (follows)
		prepare_engines(r, true, choices);
}

void mp_attention_release(struct mp_rank *r)
{
	struct mp_attention_plan *plan = r->attention_plans;
	const struct mp_attention *table = r->program->attentions;

	for (int i = 0; i < r->program->attention_count; i++) {
		struct mp_dnn_subject of = subject(&table[i]);
		if (plan->engines[i].borrowed)
			continue;
		mp_dnn_forget(&of, &plan->engines[i].whole);
		mp_dnn_forget(&of, &plan->engines[i].rest);
	}
	if (plan->dnn.library) {
		struct mp_dnn_subject first = subject(table);
		mp_dnn_close(&plan->dnn, &first);
	}
	free(plan->engines);
	free(plan);
}

// Where the tensors of a call lie; gradients are NULL in the forward pass.
struct places {
	const char *qkv, *o, *lse, *d_o;
	char *dqkv;
	struct mp_dropped dropped;
};

// The tensors of a graph and their addresses.
struct pack {
	int64_t ids[20];
	const void *addresses[20];
	int64_t count;
};

static void put(struct pack *pack, enum id id, const void *address)
{
	pack->ids[pack->count] = id;
	pack->addresses[pack->count++] = address;
}

// The heads of queries, keys and values from a group on.
static void put_packed(struct pack *pack, const struct mp_attention *a, const char *at, enum id q, enum id k, enum id v)
{
	size_t head = (size_t)a->size * 2, queries = (size_t)a->queries * head;
	put(pack, q, at);
	put(pack, k, at + queries);
	put(pack, v, at + queries + head);
}

static void run_slice(struct mp_rank *r, const struct mp_attention *a, const struct engines *e, int first, int units,
                      const struct places *at, cudaStream_t stream)
{
	const bool drops = a->dropout > 0 && !r->evaluating;
	const float scale = (float)(1 / sqrt((double)a->size)), hidden = -INFINITY, one = 1, share = drops ? (float)(1 - a->dropout) : 1;
	const float raise = drops ? (float)(1 / (1 - a->dropout)) : 1;
	size_t head = (size_t)a->size * 2, packed = (size_t)first * (size_t)(a->queries + 2) * head, rows = (size_t)first * (size_t)a->queries;
	char *workspace = r->arena + r->program->workspace_offset;
	struct mp_dnn_subject of = subject(a);
	struct pack pack = {.count = 0};

	put_packed(&pack, a, at->qkv + packed, ID_Q, ID_K, ID_V);
	put(&pack, ID_LSE, at->lse + rows * (size_t)a->tokens * sizeof(float));
	put(&pack, ID_SCALE, &scale);
	put(&pack, ID_HIDDEN, &hidden);
	if (a->dropout > 0) {
		mp_attention_mask(a, at->dropped, first, units, !drops, workspace, stream);
		put(&pack, ID_MASK, workspace);
		put(&pack, ID_RAISE, &raise);
	}
	if (a->gradient && a->dropout > 0) {
		mp_attention_scale(a, at->o, first, units, share, workspace + scaled_at(a, units), stream);
		put(&pack, ID_O, workspace + scaled_at(a, units));
	} else
		put(&pack, ID_O, at->o + rows * head);
	if (a->gradient) {
		put_packed(&pack, a, at->dqkv + packed, ID_DQ, ID_DK, ID_DV);
		put(&pack, ID_D_O, at->d_o + rows * head);
		put(&pack, ID_ONE, &one);
		put(&pack, ID_DELTA, workspace + delta_at(a, units));
	}
	if (a->gradient && e->atomics)
		put(&pack, ID_DQ_SUM, workspace + sums_at(a, units));
	mp_dnn_execute(&r->attention_plans->dnn, &of, units == e->slice ? &e->whole : &e->rest, pack.count, pack.ids, pack.addresses,
	               workspace + own_bytes(a, units, e->atomics), stream);
}

static void run_slices(struct mp_rank *r, const struct mp_attention *a, const struct places *at, cudaStream_t stream)
{
	const struct engines *e = &r->attention_plans->engines[a - r->program->attentions];
	int all = a->batch * a->groups;

	if (((uintptr_t)at->qkv | (uintptr_t)at->o | (uintptr_t)at->lse | (uintptr_t)at->d_o | (uintptr_t)at->dqkv) % (uintptr_t)a->alignment)
		mp_fail(MP_BUG, "attention %s: an operand is not aligned to %d bytes", a->name, a->alignment);
	if (stream != r->compute && (a->gradient || a->dropout > 0 || e->whole.workspace))
		mp_fail(MP_BUG, "attention %s: the workspace belongs to the compute stream", a->name);
	for (int first = 0; first < all; first += e->slice) {
		int units = all - first < e->slice ? all - first : e->slice;
		if (e->own)
			mp_attention_sm90_grad(a, first, units, at->d_o, at->qkv, at->o, at->lse, at->dqkv, r->arena + r->program->workspace_offset, stream);
		else
			run_slice(r, a, e, first, units, at, stream);
	}
}

void mp_attention(struct mp_rank *r, const struct mp_attention *attention, const void *qkv, void *o, void *lse, struct mp_dropped dropped,
                  cudaStream_t stream)
{
	struct places at = {.qkv = qkv, .o = o, .lse = lse, .dropped = dropped};
	run_slices(r, attention, &at, stream);
}

void mp_attention_grad(struct mp_rank *r, const struct mp_attention *attention, const void *d_o, const void *qkv, const void *o,
                       const void *lse, void *dqkv, struct mp_dropped dropped, cudaStream_t stream)
{
	struct places at = {.qkv = qkv, .o = o, .lse = lse, .d_o = d_o, .dqkv = dqkv, .dropped = dropped};
	run_slices(r, attention, &at, stream);
}
