// norm.c: what comes before the updates: a table of what they go through, and the norm of all gradients together, for clipping
// and for the log.
//
// Every stage has a vector with an element for each parameter of the model, in their order: the sum of squares of its
// gradient where this device counts it, else zero. A gradient is counted by its parameter's owner among the stages, and
// among the devices of tp, or of dp, by the first unless they share it out; replicas that have the same reduced gradients need
// not talk. Small all-reduces, over tp and pp, and over dp with --zero 1, make the vector whole everywhere, and every device adds it up
// by itself, in the order of parameters. So the sum has the same terms in the same order however the model is cut: a zero changes no bit.
//
// However many parameters there are, one launch takes all their gradients, and one updates them all: where they lie is a table,
// which the program brings along.
#include <string.h>

#include "plan.h"

typedef LIST(Node *) Nodes;
typedef LIST(Tensor *) Tensors;

long table_chunks(const Plan *plan, const Tensor *gradient)
{
	return (local_elements(plan, gradient) + TABLE_CHUNK - 1) / TABLE_CHUNK;
}

static bool is_wanted(const Graph *graph)
{
	return graph->optimizer.kind == OPTIMIZER_ADAMW || graph->optimizer.clip > 0;
}

static int first_block(const Plan *plan, int stage)
{
	int block = 0;
	while (plan->stage_of[block] != stage)
		block++;
	return block;
}

// A node of the stage, whose outputs the caller adds.
static Node *add_to_stage(Plan *plan, Nodes *nodes, int stage, Op op, const char *what, Phase phase, const Tensors *in, const Attributes *attributes)
{
	Graph *graph = plan->graph;
	const char *name = plan->stages > 1 ? arena_printf(plan->arena, "stage%d.%s", stage, what) : what;
	Node *node = add_node(graph, op, name, graph->optimizer.location, phase, in->at, in->count, attributes);
	graph->nodes.count--; // it belongs to the caller's list
	node->block = first_block(plan, stage);
	list_add(plan->arena, nodes, node);
	return node;
}

// The table of a stage, which its updates read; without any it has a row for nothing.
static Tensor *add_table(Plan *plan, Nodes *tables, int stage)
{
	Graph *graph = plan->graph;
	Tensors none = {0};
	Nodes updates = {0};
	for (int i = 0; i < graph->nodes.count; i++)
		if (is_update(graph->nodes.at[i]) && stage_of(plan, graph->nodes.at[i]) == stage)
			list_add(plan->arena, &updates, graph->nodes.at[i]);
	Node *node = add_to_stage(plan, tables, stage, OP_TABLE, "update.table", PHASE_PROLOGUE, &none, NULL);
	Tensor *table = add_output(graph, node, TYPE_I32, 2, (long[]){updates.count ? updates.count : 1, TABLE_COLUMNS});
	for (int i = 0; i < updates.count; i++)
		add_operand(updates.at[i], table);
	return table;
}

bool counts_apart(const Plan *plan, Axis axis)
{
	return plan->mesh[axis] > 1 && (axis != AXIS_DP || plan->zero);
}

// The vector of this stage's own squares. Its operands: the table, then the gradients.
static Tensor *add_squares(Plan *plan, Nodes *nodes, int stage, Tensor *table)
{
	Graph *graph = plan->graph;
	Tensors in = {0};
	long chunks = 0;
	list_add(plan->arena, &in, table);
	for (int i = 0; i < graph->nodes.count; i++) {
		const Node *update = graph->nodes.at[i];
		if (!is_update(update) || stage_of(plan, update) != stage)
			continue;
		list_add(plan->arena, &in, update->in[1]);
		chunks += table_chunks(plan, update->in[1]);
	}
	Node *squares = add_to_stage(plan, nodes, stage, OP_SQUARED_NORMS, "grad_norm.squares", PHASE_EPILOGUE, &in, NULL);
	Tensor *vector = add_output(graph, squares, graph->master, 1, (long[]){graph->parameters.count});
	for (int axis = AXIS_DP; axis <= AXIS_TP; axis++)
		if (counts_apart(plan, axis))
			vector->place[axis].kind = PARTIAL;
	add_named_output(graph, squares, "chunks", graph->master, 1, (long[]){chunks ? chunks : 1});
	return vector;
}

static Tensor *reduce(Plan *plan, Nodes *nodes, int stage, Axis axis, Tensor *vector)
{
	Attributes attributes = {.axis = axis, .in_place = true};
	Tensors in = {0};
	list_add(plan->arena, &in, vector);
	static const char *const names[] = {[AXIS_DP] = "grad_norm.over_dp", [AXIS_TP] = "grad_norm.over_tp", [AXIS_PP] = "grad_norm.over_pp"};
	return add_to_stage(plan, nodes, stage, OP_ALL_REDUCE, names[axis], PHASE_EPILOGUE, &in, &attributes)->out[0];
}

static Node *add_norm(Plan *plan, Nodes *nodes, int stage, Tensor *vector)
{
	Graph *graph = plan->graph;
	Attributes attributes = {.scale = graph->optimizer.clip};
	Tensors in = {0};
	list_add(plan->arena, &in, vector);
	Node *norm = add_to_stage(plan, nodes, stage, OP_GRADIENT_NORM, "grad_norm", PHASE_EPILOGUE, &in, &attributes);
	add_output(graph, norm, graph->master, 0, NULL);
	add_named_output(graph, norm, "scale", graph->master, 0, NULL);
	return norm;
}

// The norm as a metric, where the loss is.
static void add_metric(Plan *plan, Nodes *nodes, Node *const *norms)
{
	Graph *graph = plan->graph;
	const Node *loss = NULL;
	for (int i = 0; i < graph->nodes.count; i++)
		if (graph->nodes.at[i]->op == OP_METRIC && !strcmp(graph->nodes.at[i]->attributes.result->name, "loss"))
			loss = graph->nodes.at[i];
	assert(loss && "what trains has a loss");
	int stage = stage_of(plan, loss);
	Result *result = arena_alloc(plan->arena, sizeof *result);
	*result = (Result){.kind = RESULT_METRIC, .name = "grad_norm", .tensor = norms[stage]->out[0], .update = true};
	list_add(plan->arena, &graph->results, result);
	Attributes attributes = {.result = result};
	Tensors in = {0};
	list_add(plan->arena, &in, result->tensor);
	add_to_stage(plan, nodes, stage, OP_METRIC, "grad_norm.metric", PHASE_EPILOGUE, &in, &attributes)->block = loss->block;
}

static void take_phase(Plan *plan, Nodes *to, Phase phase, bool updates)
{
	for (int i = 0; i < plan->graph->nodes.count; i++) {
		Node *node = plan->graph->nodes.at[i];
		if (node->phase == phase && is_update(node) == updates)
			list_add(plan->arena, to, node);
	}
}

// All stages do one thing after another: each in the same order, so that none waits for another in a circle.
static void add_norms(Plan *plan, Nodes *own, Tensor *const *tables)
{
	Graph *graph = plan->graph;
	Tensor *vectors[MAX_STAGES];
	Node *norms[MAX_STAGES];
	for (int s = 0; s < plan->stages; s++)
		vectors[s] = add_squares(plan, own, s, tables[s]);
	for (int axis = AXIS_DP; axis <= AXIS_PP; axis++)
		for (int s = 0; s < plan->stages && counts_apart(plan, axis); s++)
			vectors[s] = reduce(plan, own, s, axis, vectors[s]);
	for (int s = 0; s < plan->stages; s++)
		norms[s] = add_norm(plan, own, s, vectors[s]);
	add_metric(plan, own, norms);
	for (int i = 0; i < graph->nodes.count; i++)
		if (is_update(graph->nodes.at[i]) && graph->optimizer.clip > 0)
			add_operand(graph->nodes.at[i], norms[stage_of(plan, graph->nodes.at[i])]->out[1]);
}

void measure_gradients(Plan *plan)
{
	Graph *graph = plan->graph;
	if (!graph->training)
		return;
	Nodes nodes = {0}, table_nodes = {0}, own = {0};
	Tensor *tables[MAX_STAGES];
	for (int s = 0; s < plan->stages; s++)
		tables[s] = add_table(plan, &table_nodes, s);
	if (is_wanted(graph))
		add_norms(plan, &own, tables);
	take_phase(plan, &nodes, PHASE_PROLOGUE, false);
	for (int i = 0; i < table_nodes.count; i++)
		list_add(plan->arena, &nodes, table_nodes.at[i]);
	for (int phase = PHASE_FORWARD; phase <= PHASE_EPILOGUE; phase++)
		take_phase(plan, &nodes, phase, false);
	for (int i = 0; i < own.count; i++)
		list_add(plan->arena, &nodes, own.at[i]);
	take_phase(plan, &nodes, PHASE_EPILOGUE, true);
	graph->nodes.count = 0;
	for (int i = 0; i < nodes.count; i++) {
		nodes.at[i]->id = i;
		list_add(plan->arena, &graph->nodes, nodes.at[i]);
	}
}
