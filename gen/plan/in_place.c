// in_place.c: nodes whose result takes the memory of an operand: all-reduces, and kernels that read an element only where
// they write it.
//
// What a device makes only for others, which tp gathers along the outermost dim, is made right among the rows that are gathered: a copy to
// there would be a kernel, which waits for whatever product runs.
//
// The gradient of cross-entropy over the logits, usually the largest tensor of a model, and rotary embeddings over the packed
// heads then need no memory of their own. It is right where nothing reads the operand's old value afterwards: neither
// later in the same micro-batch nor on another stage.
#include "fuse.h"

// An all-reduce whose operand nobody else reads replaces it.
static bool reduces_in_place(const Node *node, const int *uses)
{
	const Lowering producer = op_table[node->in[0]->producer->op].lowering;
	return node->op == OP_ALL_REDUCE && uses[node->in[0]->id] == 1 && producer != LOWER_NOTHING && producer != LOWER_ALIAS;
}

static bool is_micro(const Node *node)
{
	return node->phase == PHASE_FORWARD || node->phase == PHASE_BACKWARD;
}

// Made anew in each micro-batch, by a step of the same stage that does not add to it.
static bool is_made_here(const Plan *plan, const Node *node, const Node *producer)
{
	Lowering lowering = op_table[producer->op].lowering;
	return is_micro(producer) && !producer->accumulate && stage_of(plan, producer) == stage_of(plan, node) && lowering != LOWER_NOTHING
	    && lowering != LOWER_COPY;
}

// Whether every other node that reads some of root's bytes runs before this one, on its stage. Nodes are numbered in the order in
// which they run. A loss that is joined with its gradient makes no gradient while evaluating.
static bool is_last_reader(const Plan *plan, const Node *node, const Tensor *root)
{
	for (int i = 0; i < plan->graph->nodes.count; i++) {
		const Node *reader = plan->graph->nodes.at[i];
		if (reader->evaluation && node->op == OP_CROSS_ENTROPY_AND_GRAD)
			continue;
		for (int k = 0; k < reader->ins; k++)
			if ((reader != node || k > 0) && root_of(reader->in[k]) == root && (reader->id >= node->id || stage_of(plan, reader) != stage_of(plan, node)))
				return false;
	}
	return true;
}

static bool overwrites_in_place(const Plan *plan, const Node *node)
{
	if (!may_overwrite(node) || !is_micro(node) || node->evaluation || node->accumulate)
		return false;
	Tensor *x = node->in[0], *root = root_of(x);
	return x->type == node->out[0]->type && local_bytes(plan, x) == local_bytes(plan, node->out[0]) && is_made_here(plan, node, root->producer)
	    && is_last_reader(plan, node, root);
}

// Whether what an all-gather reads may lie in what it gives.
static bool lies_inside(const Plan *plan, const Node *gather, const int *uses)
{
	if (gather->op != OP_ALL_GATHER || gather->attributes.axis != AXIS_TP || gather->attributes.dim || !is_micro(gather))
		return false;
	const Tensor *own = gather->in[0], *all = gather->out[0];
	const Node *producer = own->producer;
	Lowering lowering = op_table[producer->op].lowering;
	bool made = (lowering == LOWER_KERNEL || lowering == LOWER_ELEMENTWISE) && !producer->attributes.in_place && !writes_operand(producer, 0);
	bool here = producer->phase == gather->phase && producer->block == gather->block && producer->evaluation == gather->evaluation;
	return made && here && is_made_here(plan, gather, producer) && uses[own->id] == 1 && own->dims == all->dims
	    && local_extent(plan, all, 0) == plan->mesh[AXIS_TP] * local_extent(plan, own, 0);
}

void find_in_place(Plan *plan, const int *uses)
{
	for (int i = 0; i < plan->graph->nodes.count; i++) {
		Node *node = plan->graph->nodes.at[i];
		if (node->ins)
			node->attributes.in_place = reduces_in_place(node, uses) || overwrites_in_place(plan, node);
		if (lies_inside(plan, node, uses))
			node->in[0]->inside = node->out[0];
	}
}
