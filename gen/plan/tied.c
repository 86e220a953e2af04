// tied.c: gradients of tables that are looked up and read elsewhere too, as a language model's head reads that of its tokens.
//
// What the look-ups add to such a gradient is zero but for the rows that were looked up. So it needs no tensor of its own: these rows are
// added onto what the table gets elsewhere, where that lies. It is right where both parts are made on one stage, nothing else reads
// the other part, and a step has one micro-batch: the sums over several are kept apart, because a pipeline, which has the parts on two
// stages, adds them up apart as well, and is to give the same bits.
#include "plan.h"

// The two parts of a sum: what look-ups add, and the rest.
typedef struct {
	Node *lookup;
	Tensor *rest;
} Parts;

// Whether the rest is a tensor of its own, made before the look-ups' part, that nothing but the sum reads.
static bool is_added_onto(const Plan *plan, const Node *lookup, const Tensor *rest, const int *uses)
{
	const Node *maker = rest->producer;
	Lowering lowering = op_table[maker->op].lowering;
	bool own = lowering == LOWER_GEMM || lowering == LOWER_KERNEL || lowering == LOWER_CHUNKS;
	bool made_before = (maker->phase == PHASE_FORWARD || maker->phase == PHASE_BACKWARD) && maker->id < lookup->id && !maker->accumulate;
	return own && made_before && uses[rest->id] == 1 && stage_of(plan, maker) == stage_of(plan, lookup) && rest->type == lookup->out[0]->type
	    && same_layout(rest, lookup->out[0]);
}

static bool find_parts(const Plan *plan, const Node *sum, const int *uses, Parts *parts)
{
	if (sum->op != OP_ADD)
		return false;
	int which = sum->in[0]->producer->op == OP_EMBEDDING_GRAD ? 0 : 1;
	*parts = (Parts){sum->in[which]->producer, sum->in[1 - which]};
	return parts->lookup->op == OP_EMBEDDING_GRAD && !adds_onto(parts->lookup) && !parts->lookup->accumulate && uses[sum->in[which]->id] == 1
	    && is_added_onto(plan, parts->lookup, parts->rest, uses);
}

static void join(const Node *sum, const Parts *parts)
{
	Node *lookup = parts->lookup;
	lookup->in[lookup->ins++] = parts->rest;
	lookup->out[0] = sum->out[0];
	lookup->out[0]->producer = lookup;
}

void join_tied_gradients(Plan *plan)
{
	if (plan->mesh[AXIS_MICRO] > 1)
		return;
	Graph *graph = plan->graph;
	Parts parts;
	int count = graph->nodes.count, kept = 0, *uses = count_uses(plan);
	Node **nodes = arena_alloc(plan->arena, (size_t)(count + 1) * sizeof *nodes);
	for (int i = 0; i < count; i++) {
		Node *node = graph->nodes.at[i];
		if (find_parts(plan, node, uses, &parts))
			join(node, &parts);
		else
			nodes[kept++] = node;
	}
	replace_nodes(plan, nodes, kept);
}
