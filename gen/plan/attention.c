// attention.c: what the gradient of attention needs beside its operands on a GPU, and how much of it is computed at once.
//
// Both types keep delta, an f32 for each query of each head. In bf16 cuDNN's deterministic algorithm also wants a matrix of
// bf16 scores for each head, tokens^2, which is more than anything else in a step. Heads of different samples and groups have
// nothing to do with each other, so they are taken in slices that keep to a budget. Where one group of heads alone would take
// more than a gibibyte, the other algorithm is used, which adds up the gradient of the queries in f32 with atomics: right, but
// in no fixed order, so that runs differ in their last bits.
#include "plan.h"

enum { ALIGNMENT = 256 };
static const size_t budget = (size_t)256 << 20, most = (size_t)1 << 30;

static size_t aligned(size_t bytes)
{
	return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

AttentionSlice attention_slice(const Plan *plan, const Node *node)
{
	const Tensor *o = node->op == OP_ATTENTION ? node->out[0] : node->in[2]; // [T,B,G,q,hs]
	size_t tokens = (size_t)local_extent(plan, o, 0), units = (size_t)local_product(plan, o, 1, 3);
	size_t heads = (size_t)local_extent(plan, o, 3), size = (size_t)local_extent(plan, o, 4);
	AttentionSlice slice = {.units = (int)units};
	if (node->op == OP_ATTENTION)
		return slice;
	size_t delta = aligned(heads * tokens * sizeof(float));
	if (plan->graph->real != TYPE_BF16) {
		slice.bytes = units * delta;
		return slice;
	}
	size_t rows = (tokens + 127) / 128 * 128, shared = heads > 1 ? 4 * heads * rows * size : 0; // key and value gradients of each head
	size_t one = delta + shared + 2 * heads * rows * rows;
	slice.atomics = one > most;
	if (slice.atomics)
		one = delta + shared + 4 * heads * rows * size;
	size_t fit = one > budget ? 1 : budget / one, slices = (units + fit - 1) / fit;
	slice.units = (int)((units + slices - 1) / slices); // of about equal size
	slice.bytes = (size_t)slice.units * one;
	return slice;
}
