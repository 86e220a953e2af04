// tied.c: gradients of tables that are looked up and read elsewhere too, as a language model's head reads that of its tokens.
//
// What the look-ups add to such a gradient is zero but for the rows that were looked up. So it needs no tensor of its own: these rows are
// added onto what the table gets elsewhere, where that lies. It is right where both parts are made on one stage, nothing else reads
// the other part, and a step has one micro-batch: the sums over several are kept apart, because a pipeline, which has the parts on two
// stages, adds them up apart as well, and is to give the same bits. Where replicas gather what they look up (place.c), the rest is what they
// have reduced, or scattered: behind the node that makes it then, so that it is under way during the backward pass.
#include "plan.h"

// The two parts of a sum: what look-ups add, and the rest, which a reduction over dp may give.
typedef struct {
	Node *lookup;
	Tensor *rest;
	Node *maker, *reduction; // of the rest; NULL: it is not reduced
} Parts;

// Whether the rest is a tensor of its own, made before the look-ups' part, that nothing but the sum reads, or its reduction.
static bool is_added_onto(const Plan *plan, const Parts *parts, const int *uses)
{
	const Node *maker = parts->maker, *lookup = parts->lookup;
	Lowering lowering = op_table[maker->op].lowering;
	bool own = lowering == LOWER_GEMM || lowering == LOWER_KERNEL || lowering == LOWER_CHUNKS;
	bool made_before = (maker->phase == PHASE_FORWARD || maker->phase == PHASE_BACKWARD) && maker->id < lookup->id && !maker->accumulate;
	bool alone = uses[parts->rest->id] == 1 && (!parts->reduction || uses[parts->reduction->in[0]->id] == 1);
	return own && made_before && alone && stage_of(plan, maker) == stage_of(plan, lookup) && parts->rest->type == lookup->out[0]->type
	    && same_layout(parts->rest, lookup->out[0]);
}

static bool find_parts(const Plan *plan, const Node *sum, const int *uses, Parts *parts)
{
	if (sum->op != OP_ADD)
		return false;
	int which = sum->in[0]->producer->op == OP_EMBEDDING_GRAD ? 0 : 1;
	*parts = (Parts){.lookup = sum->in[which]->producer, .rest = sum->in[1 - which], .maker = sum->in[1 - which]->producer};
	if ((parts->maker->op == OP_ALL_REDUCE || parts->maker->op == OP_REDUCE_SCATTER) && parts->maker->attributes.axis == AXIS_DP) {
		parts->reduction = parts->maker;
		parts->maker = parts->reduction->in[0]->producer;
	}
	return parts->lookup->op == OP_EMBEDDING_GRAD && !adds_onto(parts->lookup) && !parts->lookup->accumulate && uses[sum->in[which]->id] == 1
	    && is_added_onto(plan, parts, uses);
}

static void join(const Node *sum, const Parts *parts)
{
	Node *lookup = parts->lookup;
	lookup->in[lookup->ins++] = parts->rest;
	lookup->out[0] = sum->out[0];
	lookup->out[0]->producer = lookup;
	if (parts->reduction) {
		parts->reduction->phase = PHASE_BACKWARD;
		parts->reduction->block = parts->maker->block;
	}
}

void join_tied_gradients(Plan *plan)
{
	if (plan->mesh[AXIS_MICRO] > 1)
		return;
	Graph *graph = plan->graph;
	Parts parts;
	int count = graph->nodes.count, kept = 0, *uses = count_uses(plan);
	Node **nodes = arena_alloc(plan->arena, (size_t)(count + 1) * sizeof *nodes);
	Node **behind = arena_alloc(plan->arena, (size_t)(count + 1) * sizeof *behind); // by node: the reduction that moves behind it
	bool *moved = arena_alloc(plan->arena, (size_t)count + 1);
	for (int i = 0; i < count; i++)
		if (find_parts(plan, graph->nodes.at[i], uses, &parts)) {
			join(graph->nodes.at[i], &parts);
			moved[i] = true;
			behind[parts.maker->id] = parts.reduction;
			if (parts.reduction)
				moved[parts.reduction->id] = true;
		}
	for (int i = 0; i < count; i++) {
		if (!moved[i])
			nodes[kept++] = graph->nodes.at[i];
		if (behind[i])
			nodes[kept++] = behind[i];
	}
	replace_nodes(plan, nodes, kept);
}
