// sums.c: the gradient of a bias that adds up what the gradient of a norm has just made.
//
// The gradient of a bias in front of a residual addition is the sum down the columns of a tensor that the kernel of a norm's gradient
// makes and still has in registers. The kernel sums it chunk by chunk of its rows, as it is stored, beside what it sums for its weight
// and bias: so the tensor is not read again for that, and the chunks of all three are added up by one launch. Within a block
// alone, as all that is fused: then every plan adds up in the same order.
#include <string.h>

#include "fuse.h"

static Tensor *result_of(const Step *step)
{
	return step->nodes.at[step->nodes.count - 1]->out[0];
}

// The sum down the columns of all rows of what a norm's gradient makes, the step `maker`, where others read that too; NULL: the step is
// none. A reshape is the same rows; a collective in place is not.
static Node *sum_of(const Plan *plan, const Step *step, const Step *maker, const int *uses)
{
	Node *sum = step->nodes.at[0];
	if ((sum->op != OP_COLUMN_SUMS && sum->op != OP_SUM) || sum->block != maker->block || sum->evaluation)
		return NULL;
	const Attributes *a = &sum->attributes;
	Tensor *x = sum->in[0], *made = result_of(maker), *rows = x;
	while (op_table[rows->producer->op].lowering == LOWER_ALIAS)
		rows = rows->producer->in[0];
	bool all_rows = a->from == 0 && a->scale == 1 && local_product(plan, x, a->to, x->dims) == made->shape[made->dims - 1];
	return rows == made && all_rows && (x != made || uses[made->id] > 1) ? sum : NULL;
}

// Made in the same chunks as the sums for the weight, a part of the whole wherever those are.
static Tensor *add_dx_sums(const Plan *plan, Node *norm)
{
	const Tensor *like = norm->out[1];
	if (!sums_result(norm)) {
		Tensor *sums = add_named_output(plan->graph, norm, "dx_sums", like->type, like->dims, like->shape);
		memcpy(sums->place, like->place, sizeof sums->place);
	}
	return norm->out[norm->outs - 1];
}

// From now on of chunks: fewer terms, which may need no chunks of their own.
static void sum_chunks(Node *sum, Tensor *chunks)
{
	long parts = partial_sums_chunks(chunks);
	sum->op = OP_COLUMN_SUMS;
	sum->in[0] = chunks;
	sum->attributes.to = 1;
	sum->attributes.chunks = parts;
	if (parts < 2)
		sum->outs = 1;
	else
		sum->out[1]->shape[0] = parts;
	assert(parts < 2 || sum->outs == 2);
}

static bool sums_output_of(const Step *step, const Node *norm)
{
	const Node *sum = step->nodes.count ? step->nodes.at[0] : NULL;
	return sum && (sum->op == OP_COLUMN_SUMS || sum->op == OP_SUM) && sum->in[0]->producer == norm;
}

// Behind the other sums of chunks of the step `maker`, with which it is joined.
static void move_behind(Function *function, int maker, int at)
{
	Step step = function->steps.at[at];
	int to = maker + 1;
	while (to < at && sums_output_of(&function->steps.at[to], function->steps.at[maker].nodes.at[0]))
		to++;
	memmove(&function->steps.at[to + 1], &function->steps.at[to], (size_t)(at - to) * sizeof step);
	function->steps.at[to] = step;
}

void begin_sums(const Plan *plan, Function *function, const int *uses)
{
	for (int i = 0; i < function->steps.count; i++) {
		const Step *maker = &function->steps.at[i];
		if (maker->kind != STEP_KERNEL || !joins_behind(maker->nodes.at[0]) || maker->when != WHEN_ALWAYS)
			continue;
		for (int k = i + 1; k < function->steps.count; k++) {
			Node *sum = function->steps.at[k].kind == STEP_KERNEL ? sum_of(plan, &function->steps.at[k], maker, uses) : NULL;
			if (!sum)
				continue;
			sum_chunks(sum, add_dx_sums(plan, maker->nodes.at[0]));
			move_behind(function, i, k);
		}
	}
}
