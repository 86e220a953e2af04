// halves.c: f32 weights of which 16 bits are their working copies.
//
// What computes in bf16 takes copies of weights, which repeat the upper halves of these. Where nothing but the copy and the update reads a
// parameter, the upper half is stored once: the copy is that, and the parameter's own bytes are the lower half (runtime/mp_halves.h). That takes 4
// bytes in place of 6, and an update reads and writes 8 in place of 10. Whoever does not update a parameter needs its copy alone: inference, and stages
// that share it with its owner, which sends them that.
#include "plan.h"

// A parameter that any stage holds without a copy is stored whole on all.
static void keep_whole_without_copy(const Role *role)
{
	for (int i = 0; i < role->nodes[PHASE_PROLOGUE].count; i++) {
		const Node *node = role->nodes[PHASE_PROLOGUE].at[i];
		if (node->op == OP_PARAMETER && node->out[0]->in_halves)
			node->out[0]->in_halves = working_copy(role, node->out[0]) != NULL;
	}
}

static void send_copies(const Plan *plan)
{
	for (int i = 0; i < plan->transfers.count; i++) {
		Transfer *transfer = plan->transfers.at[i];
		if (transfer->tensor->in_halves)
			transfer->tensor = working_copy(&plan->roles[transfer->to], transfer->tensor)->out[0];
	}
}

void store_in_halves(Plan *plan)
{
	const Graph *graph = plan->graph;
	for (int i = 0; i < graph->parameters.count; i++) {
		Tensor *t = graph->parameters.at[i]->tensor;
		t->in_halves = t->type == TYPE_F32 && graph->real == TYPE_BF16;
	}
	for (int i = 0; i < graph->nodes.count; i++) {
		const Node *node = graph->nodes.at[i];
		for (int k = 0; k < node->ins; k++)
			node->in[k]->in_halves &= is_working_copy(node) || is_update(node);
	}
	for (int s = 0; s < plan->stages; s++)
		keep_whole_without_copy(&plan->roles[s]);
	send_copies(plan);
}
