// language_calls.c: the calls of kernels that language models have: exchanged dims, looked-up rows of tables, losses of
// classes that tp may share out.
#include "source.h"

// "outer, first, between, second, inner" of the operand.
static void add_exchange(Text *call, const Emit *emit, const Node *node)
{
	const Tensor *x = node->in[0];
	int from = node->attributes.from, to = node->attributes.to;
	text_add(call, ", %ld, %ld, %ld, %ld, %ld", local_product(emit->plan, x, 0, from), local_extent(emit->plan, x, from),
	         local_product(emit->plan, x, from + 1, to), local_extent(emit->plan, x, to), local_product(emit->plan, x, to + 1, x->dims));
}

// "n, columns, first, rows": the table's shard begins at row `first`.
static void add_lookup(Text *call, const Emit *emit, const Node *node, const Tensor *table)
{
	const Tensor *ids = node->in[0];
	long rows = local_extent(emit->plan, table, 0);
	const char *first = "0";
	for (int axis = AXIS_DP; axis <= AXIS_TP; axis++)
		if (emit->plan->mesh[axis] > 1 && table->place[axis].kind == SHARD && table->place[axis].dim == 0)
			first = arena_printf(emit->arena, "r->%s * %ldL", axis_name(axis), rows);
	text_add(call, ", %ld, %ld, %s, %ld", local_elements(emit->plan, ids), local_extent(emit->plan, table, 1), first, rows);
}

// "rows, cols, first, classes": of classes that tp shares out, this device has those from `first` on. Then whether each row has a
// slope of its own.
static void add_classes(Text *call, const Emit *emit, const Node *node)
{
	const Tensor *logits = node->in[0];
	int last = logits->dims - 1, n = emit->plan->mesh[AXIS_TP];
	long columns = local_extent(emit->plan, logits, last), classes = node->attributes.classes ? node->attributes.classes : logits->shape[last];
	bool sharded = n > 1 && logits->place[AXIS_TP].kind == SHARD && logits->place[AXIS_TP].dim == last;
	text_add(call, ", %ld, %ld", local_product(emit->plan, logits, 0, last), columns);
	if (sharded)
		text_add(call, ", r->tp * %ldL, mp_shard_classes(%ld, %ld, r->tp)", columns, classes, columns);
	else
		text_add(call, node->op == OP_CROSS_ENTROPY_GRAD ? ", 0, %ld" : ", %ld", classes);
	if (node->op == OP_CROSS_ENTROPY_GRAD)
		text_add(call, ", %d", node->in[3]->dims > 0);
	if (node->op == OP_CROSS_ENTROPY_AND_GRAD)
		text_add(call, ", r->evaluating");
}

bool add_language_extents(Text *call, const Emit *emit, const Node *node, const char *slot)
{
	switch (node->op) {
	case OP_TRANSPOSE: add_exchange(call, emit, node); break;
	case OP_EMBEDDING: add_lookup(call, emit, node, node->in[1]); break;
	case OP_EMBEDDING_GRAD:
		add_lookup(call, emit, node, node->out[0]);
		text_add(call, node->accumulate ? ", %s > 0" : adds_onto(node) ? ", true" : ", false", slot);
		break;
	case OP_CROSS_ENTROPY: case OP_CORRECT: case OP_CROSS_ENTROPY_GRAD: case OP_CROSS_ENTROPY_AND_GRAD: case OP_CLASS_SUMS: case OP_CLASS_BEST:
		add_classes(call, emit, node);
		break;
	case OP_CROSS_ENTROPY_OF_SUMS: case OP_CORRECT_OF_BEST:
		text_add(call, ", %ld, %ld", node->attributes.parts, local_elements(emit->plan, node->in[1]));
		break;
	default: return false;
	}
	return true;
}
