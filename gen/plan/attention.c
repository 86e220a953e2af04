// attention.c: what attention needs beside its operands on a GPU, and how much of it is computed at once.
//
// The gradient of both types keeps delta, an f32 for each query of each head. In bf16 cuDNN has two algorithms for it: one adds
// the gradient of the queries up in f32 with atomics, which is faster, but in no fixed order, so that runs differ in their last bits;
// the deterministic one wants a matrix of bf16 scores for each head, tokens^2, which is more than anything else in a step. A kernel of
// our own, for heads of some sizes, adds it up in f32 and needs two f32 more for each query. With
// dropout both directions read a mask of as much, and the gradient a scaled copy of o. Heads of different samples and groups have nothing to do with each other, so they
// are taken in slices that keep to a budget.
#include "plan.h"

static const size_t budget = (size_t)256 << 20;

bool has_own_gradient(const Node *node)
{
	const Tensor *heads = node->in[0];
	return node->op == OP_ATTENTION_GRAD && heads->type == TYPE_BF16 && heads->shape[heads->dims - 1] == 64 && node->attributes.scale == 0;
}

// The bytes of one unit of the gradient in bf16.
static size_t gradient_bytes(const Plan *plan, const Node *node, size_t tokens, size_t heads, size_t size)
{
	size_t rows = (tokens + 127) / 128 * 128, delta = aligned(heads * tokens * sizeof(float));
	size_t shared = heads > 1 ? 4 * heads * rows * size : 0; // key and value gradients of each head
	size_t dnn = delta + shared + (plan->deterministic ? 2 * heads * rows * rows : 4 * heads * rows * size);
	size_t own = has_own_gradient(node) ? aligned(heads * (rows * (size + 2) * sizeof(float) + rows / 128 * sizeof(int)) + sizeof(int)) : 0; // mp_attention_sm90_bytes()
	return dnn > own ? dnn : own;
}

AttentionSlice attention_slice(const Plan *plan, const Node *node)
{
	const Tensor *o = node->op == OP_ATTENTION ? node->out[0] : node->in[2]; // [T,B,G,q,hs]
	size_t tokens = (size_t)local_extent(plan, o, 0), units = (size_t)local_product(plan, o, 1, 3);
	size_t heads = (size_t)local_extent(plan, o, 3), size = (size_t)local_extent(plan, o, 4);
	bool gradient = node->op == OP_ATTENTION_GRAD, drops = node->attributes.scale > 0;
	AttentionSlice slice = {.units = (int)units};
	if (plan->graph->real != TYPE_BF16) {
		slice.bytes = gradient ? units * aligned(heads * tokens * sizeof(float)) : 0;
		return slice;
	}
	slice.any_order = !plan->deterministic;
	if (!gradient && !drops)
		return slice;
	size_t mask = drops ? aligned(2 * heads * tokens * ((tokens + 7) / 8 * 8)) : 0;
	size_t scaled = gradient && drops ? aligned(2 * heads * tokens * size) : 0; // a copy of o
	size_t one = mask + scaled + (gradient ? gradient_bytes(plan, node, tokens, heads, size) : 0);
	size_t fit = one > budget ? 1 : budget / one, slices = (units + fit - 1) / fit;
	slice.units = (int)((units + slices - 1) / slices); // of about equal size
	slice.bytes = (size_t)slice.units * one;
	return slice;
}
