// own_rows.c: matrix products of what tp gathers begin with the rows that are here already.
//
// Of a tensor that is gathered along its rows a device has its own before the others arrive, so the product of these need not wait.
// A step becomes one for each device's rows: the own ones first, while the others are on their way. In the backward pass gradients of
// weights fill that time (order.c); so only the forward pass is split, and what of it is made again, which is to give the same bits, and
// only where the predicted time falls.
#include "cost.h"
#include "depend.h"
#include "fuse.h"

// The all-gather whose result the step's product multiplies from the left, whole rows of each device; NULL: there is none.
static const Node *find_gather(const Plan *plan, const Step *step)
{
	const Node *product = step->nodes.at[0], *gather = step->kind == STEP_GEMM ? product->in[0]->producer : NULL;
	if (!gather || step->accumulate || (product->phase != PHASE_FORWARD && !product->again) || product->attributes.parts || product->attributes.transpose == MATMUL_TN)
		return NULL;
	bool rows = gather->op == OP_ALL_GATHER && gather->attributes.axis == AXIS_TP && gather->attributes.dim == 0 && matmul_rows(product) > 0;
	bool here = gather->phase == product->phase && gather->block == product->block;
	return rows && here && local_extent(plan, gather->out[0], 0) == plan->mesh[AXIS_TP] * local_extent(plan, gather->in[0], 0) ? gather : NULL;
}

// Whether the first of the parts saves more, beside the gather, than their launches cost.
static bool is_faster(const Plan *plan, const Step *step, const Node *gather)
{
	int n = plan->mesh[AXIS_TP];
	double sent = node_seconds(plan, gather), whole = step_seconds(plan, step), part = part_seconds(plan, whole, n);
	return (sent > part ? sent : part) + (n - 1) * part < sent + whole;
}

// Whether an activation behind the product stores what it reads.
static bool is_kept(const Step *step, const Tensor *root)
{
	const Node *last = step->nodes.at[step->nodes.count - 1];
	return last->op != OP_ADD && last != step->nodes.at[0] && root == root_of(last->in[last->ins - 1]);
}

// The step for the rows of the device `rank` ranks behind this one; 0: its own, of what was not gathered yet.
static Step part_of(const Plan *plan, const Step *step, const Node *gather, int rank)
{
	const Rows rows = {plan->mesh[AXIS_TP], rank, 1, 0};
	Step part = *step;
	part.parts = rows.ranks;
	part.part = rank;
	part.name = arena_printf(plan->arena, rank ? "%s.rows_%d" : "%s.own_rows", step->name, rank);
	part.accesses.at = NULL;
	part.accesses.count = part.accesses.capacity = 0;
	for (int i = 0; i < step->accesses.count; i++) {
		const Access *access = &step->accesses.at[i];
		bool gathered = access->tensor == root_of(gather->out[0]);
		if (gathered && !rank)
			add_access(plan, &part, gather->in[0], false, access->argument);
		else
			add_rows(plan, &part, access->tensor, gathered || access->write || is_kept(step, access->tensor) ? rows : access->rows, access->write, access->argument);
	}
	return part;
}

void begin_with_own_rows(const Plan *plan, Function *function)
{
	Function split = {0};
	for (int i = 0; i < function->steps.count; i++) {
		const Step *step = &function->steps.at[i];
		const Node *gather = find_gather(plan, step);
		bool apart = gather && is_faster(plan, step, gather);
		for (int part = 0; part < (apart ? plan->mesh[AXIS_TP] : 1); part++) {
			Step next = apart ? part_of(plan, step, gather, part) : *step;
			list_add(plan->arena, &split.steps, next);
		}
	}
	function->steps = split.steps;
}
