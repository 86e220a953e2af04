// sequence.c: prologue and epilogue of all stages, in one global order.
//
// Each stage's list is the global list restricted to what concerns it. A message stands before the first node that
// needs it, in both its stages; so every stage meets its messages in the same order and none can wait in a circle.
// The updates of a stage come last, in one step.
#include "fuse.h"

static void add_message(Plan *plan, int stage, FunctionKind kind, const Transfer *transfer)
{
	Function *function = function_of(&plan->roles[stage], kind);
	bool send = transfer->from == stage;
	Step step = {.kind = STEP_TRANSFER, .stream = STREAM_PP, .call = -1, .name = transfer->tensor->name,
	             .when = transfer->evaluation ? WHEN_EVALUATING : WHEN_ALWAYS};
	Message message = {.transfer = transfer, .send = send};
	list_add(plan->arena, &step.messages, message);
	list_add(plan->arena, &function->steps, step);
}

static void deliver(Plan *plan, FunctionKind kind, const Transfer *transfer)
{
	add_message(plan, transfer->from, kind, transfer);
	add_message(plan, transfer->to, kind, transfer);
}

// Messages of `kind` that node needs and that were not delivered yet.
static void deliver_operands(Plan *plan, FunctionKind function, const Node *node, int kind, bool *delivered)
{
	for (int k = 0; k < node->ins; k++)
		for (int i = 0; i < plan->transfers.count; i++) {
			const Transfer *transfer = plan->transfers.at[i];
			if ((int)transfer->kind == kind && transfer->tensor == node->in[k] && transfer->to == stage_of(plan, node) && !delivered[i]) {
				deliver(plan, function, transfer);
				delivered[i] = true;
			}
		}
}

// Updated weights leave as soon as they are there, or their working copies; who receives whole weights makes their copy.
static void deliver_result(Plan *plan, const Node *update, bool *delivered)
{
	for (int i = 0; i < plan->transfers.count; i++) {
		const Transfer *transfer = plan->transfers.at[i];
		if (transfer->kind != TRANSFER_EPILOGUE || parameter_of(transfer->tensor) != update->attributes.parameter || delivered[i])
			continue;
		deliver(plan, FUNCTION_UPDATE, transfer);
		delivered[i] = true;
		Role *role = &plan->roles[transfer->to];
		Node *copy = working_copy(role, transfer->tensor);
		if (copy)
			add_step(plan, function_of(role, FUNCTION_UPDATE), copy);
	}
}

static void place_node(Plan *plan, FunctionKind function, Node *node, int kind, bool *delivered)
{
	deliver_operands(plan, function, node, kind, delivered);
	Lowering lowering = op_table[node->op].lowering;
	if (lowering != LOWER_NOTHING && lowering != LOWER_ALIAS)
		add_step(plan, function_of(&plan->roles[stage_of(plan, node)], function), node);
}

static bool *flags(const Plan *plan, int count)
{
	return arena_alloc(plan->arena, (size_t)count + 1);
}

void sequence_prologue(Plan *plan)
{
	bool *delivered = flags(plan, plan->transfers.count);
	for (int s = 0; s < plan->stages; s++) { // inputs first: every stage copies its own
		Role *role = &plan->roles[s];
		for (int i = 0; i < role->nodes[PHASE_PROLOGUE].count; i++)
			if (role->nodes[PHASE_PROLOGUE].at[i]->op == OP_INPUT)
				add_step(plan, function_of(role, FUNCTION_PROLOGUE), role->nodes[PHASE_PROLOGUE].at[i]);
	}
	for (int s = 0; s < plan->stages; s++)
		for (int i = 0; i < plan->roles[s].nodes[PHASE_PROLOGUE].count; i++) {
			Node *node = plan->roles[s].nodes[PHASE_PROLOGUE].at[i];
			if (is_working_copy(node) && !node->in[0]->in_halves) // which is loaded as it is
				add_step(plan, function_of(&plan->roles[s], FUNCTION_LOADED), node);
		}
	for (int i = 0; i < plan->graph->nodes.count; i++) {
		Node *node = plan->graph->nodes.at[i];
		if (node->phase == PHASE_PROLOGUE && node->op != OP_INPUT && node->op != OP_PARAMETER && !is_working_copy(node) && !gathers_parameter(node))
			place_node(plan, FUNCTION_PROLOGUE, node, TRANSFER_PROLOGUE, delivered);
	}
	for (int i = 0; i < plan->transfers.count; i++) // what micro-batches of other stages read
		if (plan->transfers.at[i]->kind == TRANSFER_PROLOGUE && !delivered[i])
			deliver(plan, FUNCTION_PROLOGUE, plan->transfers.at[i]);
}

static void mark_needed(const Node *node, bool *needed)
{
	if (node->phase != PHASE_EPILOGUE || needed[node->id])
		return;
	needed[node->id] = true;
	for (int i = 0; i < node->ins; i++)
		mark_needed(node->in[i]->producer, needed);
}

static bool is_shown(const Node *node)
{
	return node->op == OP_OUTPUT || (node->op == OP_METRIC && !node->attributes.result->update);
}

// All updates of a stage in one step: what they need has come before, what they give leaves behind.
static void sequence_updates(Plan *plan, bool *delivered)
{
	const Graph *graph = plan->graph;
	for (int i = 0; i < graph->nodes.count; i++)
		if (is_update(graph->nodes.at[i]))
			deliver_operands(plan, FUNCTION_UPDATE, graph->nodes.at[i], TRANSFER_EPILOGUE, delivered);
	Step *updates[MAX_STAGES] = {0};
	for (int i = 0; i < graph->nodes.count; i++) {
		Node *node = graph->nodes.at[i];
		if (!is_update(node))
			continue;
		int stage = stage_of(plan, node);
		if (updates[stage]) {
			list_add(plan->arena, &updates[stage]->nodes, node);
			continue;
		}
		Function *function = function_of(&plan->roles[stage], FUNCTION_UPDATE);
		add_step(plan, function, node);
		updates[stage] = &function->steps.at[function->steps.count - 1];
		updates[stage]->name = "update";
	}
	for (int i = 0; i < graph->nodes.count; i++)
		if (is_update(graph->nodes.at[i]))
			deliver_result(plan, graph->nodes.at[i], delivered);
}

// What the user sees comes first, so that an evaluation can stop there.
void sequence_epilogue(Plan *plan)
{
	const Graph *graph = plan->graph;
	bool *delivered = flags(plan, plan->transfers.count), *shown = flags(plan, graph->nodes.count);
	for (int i = 0; i < graph->nodes.count; i++)
		if (is_shown(graph->nodes.at[i]))
			mark_needed(graph->nodes.at[i], shown);
	for (int part = 0; part < 2; part++)
		for (int i = 0; i < graph->nodes.count; i++) {
			Node *node = graph->nodes.at[i];
			if (node->phase == PHASE_EPILOGUE && shown[i] == (part == 0) && !is_update(node))
				place_node(plan, part == 0 ? FUNCTION_RESULTS : FUNCTION_UPDATE, node, TRANSFER_EPILOGUE, delivered);
		}
	sequence_updates(plan, delivered);
}
