// in_pieces.c: what devices of tp compute row by row between two collectives, half of their rows at a time.
//
// A sum that is scattered waits for its product and what reads it waits for the sum; rows that are gathered wait for their norm, and products
// for them. Each row goes this way by itself, though: product, sum, residual, norm, gather, next product. So these steps become one for each
// piece of a device's rows, in the order in which a simulated device can start them (order.c): while a piece is on its way, the other is computed.
// Attention needs all positions and stays whole, and so does dropout, whose random numbers go by the place of an element. Where the
// backward pass makes products again, it is cut as well, as that is to give the same bits. Only where the predicted time of the forward pass falls.
#include "depend.h"
#include "fuse.h"

enum { PIECES = 2 };

// Whether tp splits a tensor by rows, its outermost dim.
static bool is_split(const Tensor *t)
{
	return t->dims > 0 && t->place[AXIS_TP].kind == SHARD && t->place[AXIS_TP].dim == 0;
}

static bool is_norm(const Node *node)
{
	return node->op == OP_LAYER_NORM || node->op == OP_RMS_NORM;
}

// Whether operand k has a row for each of the result's; else it is the same for all.
static bool has_rows(const Node *node, int k)
{
	return is_norm(node) ? k == 0 : same_layout(node->in[k], node->out[0]);
}

// Whether each row of the result is made of the same rows of the operands, and of what has no rows.
static bool is_row_wise(const Node *node)
{
	bool elementwise = op_table[node->op].lowering == LOWER_ELEMENTWISE && node->op != OP_EXPAND && node->op != OP_CONSTANT && !node->attributes.groups;
	if ((!elementwise && !is_norm(node)) || !is_split(node->out[0]))
		return false;
	for (int k = 0; k < node->ins; k++)
		if (!has_rows(node, k) && node->in[k]->dims >= node->out[0]->dims)
			return false;
	return true;
}

static bool is_of_forward(const Step *step)
{
	bool forward = step->nodes.count > 0 && !step->accumulate;
	for (int i = 0; i < step->nodes.count; i++)
		forward &= step->nodes.at[i]->phase == PHASE_FORWARD || step->nodes.at[i]->again;
	return forward;
}

static bool is_all_row_wise(const Step *step)
{
	for (int i = 0; i < step->nodes.count; i++)
		if (!is_row_wise(step->nodes.at[i]))
			return false;
	return true;
}

// Whether a step can be done piece by piece. Of products those of one device's rows, as own_rows.c and decompose.c make them.
static bool can_be_cut(const Plan *plan, const Step *step)
{
	if (!is_of_forward(step))
		return false;
	const Node *node = step->nodes.at[0];
	const Attributes *a = &node->attributes;
	int ranks = 1;
	bool can = false;
	switch (step->kind) {
	case STEP_GEMM:
		can = step->parts || a->parts;
		ranks = plan->mesh[AXIS_TP];
		break;
	case STEP_COLLECTIVE: can = a->axis == AXIS_TP && (node->op == OP_SHIFT || (node->op == OP_ALL_GATHER && node->in[0]->inside == node->out[0])); break;
	case STEP_ELEMENTWISE: case STEP_KERNEL: can = is_all_row_wise(step); break;
	default: break;
	}
	return can && local_extent(plan, node->in[0], 0) % (ranks * PIECES) == 0;
}

// Whether an access is to rows that go from step to step.
static bool is_of_rows(const Step *step, const Access *access)
{
	if (access->write || access->rows.ranks || step->kind == STEP_COLLECTIVE)
		return true;
	if (step->kind == STEP_GEMM) // of the own rows, which lie apart from what is gathered
		return step->parts && access->tensor == root_of(step->nodes.at[0]->in[0]->producer->in[0]);
	for (int i = 0; i < step->nodes.count; i++)
		for (int k = 0; k < step->nodes.at[i]->ins; k++)
			if (root_of(step->nodes.at[i]->in[k]) == access->tensor && has_rows(step->nodes.at[i], k))
				return true;
	return false;
}

static Step piece_of(const Plan *plan, const Step *step, int piece)
{
	Step part = *step;
	part.pieces = PIECES;
	part.piece = piece;
	part.name = arena_printf(plan->arena, "%s.piece_%d", step->name, piece + 1);
	part.accesses.at = NULL;
	part.accesses.count = part.accesses.capacity = 0;
	for (int i = 0; i < step->accesses.count; i++) {
		Access access = step->accesses.at[i];
		if (is_of_rows(step, &access))
			access.rows = (Rows){access.rows.ranks ? access.rows.ranks : 1, access.rows.rank, PIECES, piece};
		list_add(plan->arena, &part.accesses, access);
	}
	return part;
}

static Function in_pieces(const Plan *plan, const Function *function)
{
	Function cut = *function;
	cut.steps.at = NULL;
	cut.steps.count = cut.steps.capacity = 0;
	for (int i = 0; i < function->steps.count; i++) {
		const Step *step = &function->steps.at[i];
		bool can = can_be_cut(plan, step);
		for (int piece = 0; piece < (can ? PIECES : 1); piece++) {
			Step next = can ? piece_of(plan, step, piece) : *step;
			list_add(plan->arena, &cut.steps, next);
		}
	}
	return cut;
}

static bool depends(const Dependencies *on, int step)
{
	for (int k = 0; k < on->count; k++)
		if (on->at[k].step == step)
			return true;
	return false;
}

// Where the other piece of the step at `first` is, if both are better done at once: nothing but communication comes between them, none of
// it waits for the first piece, and the second waits for none. 0: nowhere.
static int find_other(const Plan *plan, const Function *cut, const Dependencies *on, int first)
{
	const Step *steps = cut->steps.at, *piece = &steps[first];
	int other = first + 1;
	if (!piece->pieces || piece->piece || is_communication(piece) || is_sent(plan, piece))
		return 0;
	while (other < cut->steps.count && is_communication(&steps[other]))
		other++;
	if (other == cut->steps.count || steps[other].nodes.at != piece->nodes.at || steps[other].part != piece->part)
		return 0;
	for (int k = 0; k < on[other].count; k++)
		if (is_communication(&steps[on[other].at[k].step]))
			return 0;
	for (int i = first + 1; i < cut->steps.count; i++)
		if (is_communication(&steps[i]) && depends(&on[i], first))
			return 0;
	return other;
}

// The step that a piece was cut from.
static Step whole_of(const Function *function, const Step *piece)
{
	for (int i = 0; ; i++)
		if (function->steps.at[i].nodes.at == piece->nodes.at && function->steps.at[i].part == piece->part)
			return function->steps.at[i];
}

// Pieces that came to lie side by side as one step again.
static Function join_neighbours(const Plan *plan, const Function *function, const Function *cut)
{
	const Dependencies *on = find_dependencies(plan, cut);
	Function joined = *cut;
	joined.steps.at = NULL;
	joined.steps.count = joined.steps.capacity = 0;
	for (int i = 0; i < cut->steps.count; i++) {
		int other = find_other(plan, cut, on, i);
		Step next = other ? whole_of(function, &cut->steps.at[i]) : cut->steps.at[i];
		next.block = cut->steps.at[i].block;
		for (int between = i + 1; between < other; between++)
			list_add(plan->arena, &joined.steps, cut->steps.at[between]);
		list_add(plan->arena, &joined.steps, next);
		i = other ? other : i;
	}
	return joined;
}

// Whether products are made again, which a library may sum up in another order for another number of rows.
static bool makes_products_again(const Plan *plan, const Function *backward)
{
	for (int i = 0; i < backward->steps.count; i++)
		if (backward->steps.at[i].kind == STEP_GEMM && can_be_cut(plan, &backward->steps.at[i]))
			return true;
	return false;
}

void compute_in_pieces(const Plan *plan, Role *role)
{
	Function *forward = function_of(role, FUNCTION_FORWARD), *backward = function_of(role, FUNCTION_BACKWARD);
	Function cut = in_pieces(plan, forward);
	if (cut.steps.count == forward->steps.count)
		return;
	hide_communication(plan, &cut);
	cut = join_neighbours(plan, forward, &cut);
	if (function_seconds(plan, &cut, false) >= function_seconds(plan, forward, false))
		return;
	*forward = cut;
	if (makes_products_again(plan, backward))
		*backward = in_pieces(plan, backward);
}
