// zero.c: what the optimizer keeps, shared out over replicas (ZeRO, stage 1).
//
// Replicas would all store the same parameters in full precision and the same state of the optimizer, and all apply the same update. With
// --zero 1 each stores and updates a part of every parameter alone. Gradients are then scattered where they would be all-reduced,
// as they are added up; and what a step computes with is gathered as it begins, in the compute type: over the links go as many bytes in
// f32, three quarters in bf16, and of the memory that the optimizer needs a replica has its part.
// What is stored where is all that is said here: conversions follow from it (place.c). The gathered tensor stands in the place of the stored one
// for whatever reads it but its update, so that the model itself is computed as without.
#include <string.h>

#include "../graph/rules.h"
#include "fuse.h"
#include "place.h"

// By tensor id: whether it is a matrix, a filter or a table that rows are looked up in. All else, biases and what norms have, is small.
static bool *find_large(const Graph *graph)
{
	bool *large = arena_alloc(graph->arena, (size_t)graph->tensors.count + 1);
	for (int i = 0; i < graph->nodes.count; i++) {
		const Node *node = graph->nodes.at[i];
		Lowering lowering = op_table[node->op].lowering;
		const Parameter *weight = lowering == LOWER_GEMM || lowering == LOWER_CONV || lowering == LOWER_CHUNKS || node->op == OP_EMBEDDING
		    ? parameter_of(node->in[1]) : NULL;
		if (weight)
			large[weight->tensor->id] = true;
	}
	return large;
}

// The dim of a parameter that replicas share out; -1: each has the whole. The first dim is best, which lies in memory as NCCL
// sends it; any other, and one that does not divide, is packed before and unpacked behind.
static int stored_dim(const Plan *plan, const Tensor *parameter)
{
	int n = plan->mesh[AXIS_DP], best = -1;
	if (parameter->place[AXIS_DP].kind == SHARD) // the spec's own
		return -1;
	for (int d = 0; d < parameter->dims; d++) {
		bool taken = plan->mesh[AXIS_TP] > 1 && parameter->place[AXIS_TP].kind == SHARD && parameter->place[AXIS_TP].dim == d;
		if (!taken && parameter->shape[d] % n == 0)
			return d;
		if (!taken && best < 0 && parameter->shape[d] > n)
			best = d;
	}
	return best;
}

static void share_out(Tensor *t, int dim)
{
	t->place[AXIS_DP] = (Placement){SHARD, dim};
}

// A look-up reads a table in full precision, and rounds what it finds: in the compute type the same rows are half as much to gather.
static void look_up_copies(Graph *graph)
{
	for (int i = 0; i < graph->nodes.count; i++) {
		Node *node = graph->nodes.at[i];
		const Parameter *table = node->op == OP_EMBEDDING ? parameter_of(node->in[1]) : NULL;
		if (table && table->in_parts && graph->real != graph->master)
			want_real(graph, node, 1);
	}
}

void store_in_parts(Plan *plan)
{
	Graph *graph = plan->graph;
	if (plan->zero && plan->mesh[AXIS_DP] == 1)
		warn_at(NULL, "--zero 1 shares out among replicas, and there is one: it changes nothing\nname more: --mesh dp=2");
	if (!plan->zero || plan->mesh[AXIS_DP] == 1)
		return;
	const bool *large = find_large(graph);
	for (int i = 0; i < graph->parameters.count; i++) {
		Parameter *parameter = graph->parameters.at[i];
		int dim = parameter->gradient && large[parameter->tensor->id] ? stored_dim(plan, parameter->tensor) : -1;
		parameter->in_parts = dim >= 0;
		if (parameter->in_parts)
			share_out(parameter->tensor, dim);
	}
	for (int i = 0; i < graph->states.count; i++)
		if (graph->states.at[i]->parameter->in_parts)
			share_out(graph->states.at[i]->tensor, graph->states.at[i]->parameter->tensor->place[AXIS_DP].dim);
	look_up_copies(graph);
}

// ---- while tensors are placed

static void gather_once(Placing *p, Tensor *t)
{
	const Parameter *parameter = parameter_of(t);
	if (parameter && parameter->in_parts && !p->latest[t->id])
		p->latest[t->id] = insert_conversion(p, t, AXIS_DP, (Placement){REPLICATE, 0}, t->producer, PHASE_PROLOGUE);
}

// In the order in which the model reads them.
void gather_stored(Placing *p)
{
	for (int i = 0; i < p->all.count; i++) {
		const Node *node = p->all.at[i];
		for (int k = 0; k < node->ins && (node->phase == PHASE_FORWARD || node->phase == PHASE_BACKWARD); k++)
			gather_once(p, node->in[k]);
	}
}

// ---- while steps are made

// The first step that reads t; -1: none does.
static int first_reader(const Function *function, const Tensor *t)
{
	for (int i = 0; i < function->steps.count; i++)
		for (int n = 0; n < function->steps.at[i].nodes.count; n++)
			for (int k = 0; k < function->steps.at[i].nodes.at[n]->ins; k++)
				if (root_of(function->steps.at[i].nodes.at[n]->in[k]) == t)
					return i;
	return -1;
}

// Whether what is gathered is converted further before the micro-batches, which is not done yet.
static bool is_read_by_prologue(const Role *role, const Tensor *t)
{
	for (int i = 0; i < role->nodes[PHASE_PROLOGUE].count; i++) {
		const Node *node = role->nodes[PHASE_PROLOGUE].at[i];
		for (int k = 0; k < node->ins && !gathers_parameter(node); k++)
			if (root_of(node->in[k]) == t)
				return true;
	}
	return false;
}

static void put_before(const Plan *plan, Role *role, Node *node)
{
	Step step = step_of_node(plan, node);
	Tensor *t = node->out[0];
	if (is_read_by_prologue(role, t)) {
		insert_step(plan, function_of(role, FUNCTION_PROLOGUE), 0, step);
		return;
	}
	for (FunctionKind kind = FUNCTION_PROLOGUE; kind <= FUNCTION_BACKWARD; kind++) {
		Function *function = function_of(role, kind);
		int index = first_reader(function, t);
		if (index < 0)
			continue;
		step.block = function->steps.at[index].block;
		step.when = kind != FUNCTION_PROLOGUE && plan->mesh[AXIS_MICRO] > 1 ? WHEN_FIRST : WHEN_ALWAYS;
		insert_step(plan, function, index, step);
		return;
	}
	assert(false && "what is gathered on a stage is read there");
}

// The stream of replicas runs ahead of computation, as far as it gets: gathers wait for nothing. From the last on, so that what
// unpacks stands there when what it reads is gathered.
void gather_before_use(const Plan *plan, Role *role)
{
	for (int i = role->nodes[PHASE_PROLOGUE].count - 1; i >= 0; i--)
		if (gathers_parameter(role->nodes[PHASE_PROLOGUE].at[i]))
			put_before(plan, role, role->nodes[PHASE_PROLOGUE].at[i]);
}

// The epilogue's step whose node reads t and scatters it, or packs it for that; taken out of its function. NULL: there is none.
static Node *take_scatter(Role *role, const Tensor *t)
{
	Function *update = function_of(role, FUNCTION_UPDATE);
	for (int i = 0; i < update->steps.count; i++) {
		Node *node = update->steps.at[i].nodes.count ? update->steps.at[i].nodes.at[0] : NULL;
		bool scatters = node && (node->op == OP_REDUCE_SCATTER || node->op == OP_PACK) && node->attributes.axis == AXIS_DP;
		if (scatters && root_of(node->in[0]) == t) {
			remove_step(update, i);
			return node;
		}
	}
	return NULL;
}

// Puts what scatters a tensor that was just completed at `index` of the backward pass. Returns how many steps.
static int insert_scatter(Plan *plan, Role *role, int index, const Tensor *t, int block)
{
	int count = 0;
	for (Node *node; (node = take_scatter(role, t)); t = node->out[0]) {
		Step step = step_of_node(plan, node);
		step.block = block;
		step.when = plan->mesh[AXIS_MICRO] > 1 ? WHEN_LAST : WHEN_ALWAYS;
		add_access(plan, &step, node->in[0], false, 0);
		add_access(plan, &step, node->out[0], true, 0);
		insert_step(plan, function_of(role, FUNCTION_BACKWARD), index + count++, step);
	}
	return count;
}

static bool is_written_from(const Function *function, int index, const Tensor *t)
{
	for (int i = index; i < function->steps.count; i++)
		for (int k = 0; k < function->steps.at[i].accesses.count; k++)
			if (function->steps.at[i].accesses.at[k].write && function->steps.at[i].accesses.at[k].tensor == t)
				return true;
	return false;
}

// What a step has completed, from `index` of the backward pass on. Returns how many steps.
static int scatter_completed(Plan *plan, Role *role, Step step, int index, int block)
{
	int count = 0;
	for (int k = 0; k < step.accesses.count; k++)
		if (step.accesses.at[k].write && !is_written_from(function_of(role, FUNCTION_BACKWARD), index + count, step.accesses.at[k].tensor))
			count += insert_scatter(plan, role, index + count, step.accesses.at[k].tensor, block);
	return count;
}

void scatter_gradients(Plan *plan, Role *role)
{
	Function *backward = function_of(role, FUNCTION_BACKWARD);
	const Function *forward = function_of(role, FUNCTION_FORWARD);
	int index = 0;
	for (int i = 0; i < forward->steps.count && backward->steps.count; i++)
		if (forward->steps.at[i].kind == STEP_CHUNKS) // it makes gradients with its losses
			index += scatter_completed(plan, role, forward->steps.at[i], index, backward->steps.at[index].block);
	for (; index < backward->steps.count; index++)
		index += scatter_completed(plan, role, backward->steps.at[index], index + 1, backward->steps.at[index].block);
}
