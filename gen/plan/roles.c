// roles.c: splits the placed graph into what each stage runs, and finds the messages between stages.
//
// A node runs on the stage of its block. A tensor that another stage needs travels from the nearest stage that has it:
// forward tensors from user to user down the pipeline, backward ones to the stage that continues the sum. Inputs and
// parameters do not travel in micro-batches: every stage reads the inputs and holds the parameters that it uses. The
// owner of a parameter that several stages use sends the updated weights to the others in the epilogue.
#include <stdlib.h>

#include "plan.h"

// Where a tensor is needed: by kind of transfer, then by stage.
typedef struct {
	bool needed[MAX_STAGES];
	bool always[MAX_STAGES]; // not only while evaluating
} Needs;

static bool is_local_everywhere(const Node *producer)
{
	return producer->op == OP_PARAMETER || producer->op == OP_INPUT || is_working_copy(producer) || gathers_parameter(producer);
}

// A loss makes its gradient in the forward pass, and an earlier stage may read that: against the pipeline too.
static int transfer_kind(const Plan *plan, const Node *producer, const Node *consumer)
{
	if (consumer->phase == PHASE_EPILOGUE)
		return TRANSFER_EPILOGUE;
	if (consumer->phase == PHASE_PROLOGUE)
		return TRANSFER_PROLOGUE;
	bool against = consumer->phase == PHASE_BACKWARD && stage_of(plan, consumer) < stage_of(plan, producer);
	if (producer->phase == PHASE_BACKWARD || (producer->phase == PHASE_FORWARD && against))
		return TRANSFER_BACKWARD;
	return producer->phase == PHASE_PROLOGUE ? TRANSFER_PROLOGUE : TRANSFER_FORWARD;
}

static void add_transfer(Plan *plan, Tensor *tensor, int from, int to, int kind, bool evaluation)
{
	Transfer *transfer = arena_alloc(plan->arena, sizeof *transfer);
	*transfer = (Transfer){.tensor = tensor, .from = from, .to = to, .kind = kind, .evaluation = evaluation};
	list_add(plan->arena, &plan->transfers, transfer);
}

// Messages of one tensor of one kind. A forward tensor goes from user to user in stage order, a backward one likewise
// against it; the others go from the owner to each user.
static void connect(Plan *plan, Tensor *tensor, int kind, const Needs *needs)
{
	int home = stage_of(plan, tensor->producer), at = home;
	int step = kind == TRANSFER_BACKWARD ? -1 : 1;
	bool chained = kind == TRANSFER_FORWARD || kind == TRANSFER_BACKWARD;
	for (int i = 1; i < plan->stages; i++) {
		int stage = chained ? home + i * step : i <= home ? i - 1 : i;
		if (stage < 0 || stage >= plan->stages || !needs->needed[stage])
			continue;
		add_transfer(plan, tensor, at, stage, kind, !needs->always[stage]);
		if (chained)
			at = stage;
	}
}

typedef LIST(const Node *) Consumers;

// By tensor id: the nodes of other stages than its own that read it.
static Consumers *find_distant_consumers(const Plan *plan)
{
	const Graph *graph = plan->graph;
	Consumers *consumers = arena_alloc(plan->arena, (size_t)graph->tensors.count * sizeof *consumers);
	for (int i = 0; i < graph->nodes.count; i++) {
		const Node *node = graph->nodes.at[i];
		for (int k = 0; k < node->ins; k++)
			if (!is_local_everywhere(node->in[k]->producer) && stage_of(plan, node) != stage_of(plan, node->in[k]->producer))
				list_add(plan->arena, &consumers[node->in[k]->id], node);
	}
	return consumers;
}

static void find_transfers(Plan *plan)
{
	const Graph *graph = plan->graph;
	const Consumers *consumers = find_distant_consumers(plan);
	for (int i = 0; i < graph->nodes.count; i++)
		for (int k = 0; k < graph->nodes.at[i]->outs; k++) {
			Tensor *t = graph->nodes.at[i]->out[k];
			const Consumers *distant = &consumers[t->id];
			Needs needs[4] = {0};
			for (int j = 0; j < distant->count; j++) {
				Needs *need = &needs[transfer_kind(plan, t->producer, distant->at[j])];
				need->needed[stage_of(plan, distant->at[j])] = true;
				need->always[stage_of(plan, distant->at[j])] |= !distant->at[j]->evaluation;
			}
			for (int kind = 0; distant->count && kind < 4; kind++)
				connect(plan, t, kind, &needs[kind]);
		}
}

static bool has_node(const Role *role, const Node *node)
{
	for (int i = 0; i < role->nodes[node->phase].count; i++)
		if (role->nodes[node->phase].at[i] == node)
			return true;
	return false;
}

// A working copy brings its parameter along, and so does what is gathered.
static void list_once(const Plan *plan, Role *role, Node *leaf, bool *listed)
{
	if (leaf->ins && !listed[leaf->id])
		list_once(plan, role, leaf->in[0]->producer, listed);
	if (!listed[leaf->id])
		list_add(plan->arena, &role->nodes[PHASE_PROLOGUE], leaf);
	listed[leaf->id] = true;
}

// Inputs and parameters are listed in every role that reads them, and parameters in their owner's.
static void assign_nodes(Plan *plan, Role *role)
{
	const Graph *graph = plan->graph;
	bool *listed = arena_alloc(plan->arena, (size_t)graph->nodes.count);
	for (int i = 0; i < graph->nodes.count; i++) {
		Node *node = graph->nodes.at[i];
		if (stage_of(plan, node) != role->stage)
			continue;
		if (is_local_everywhere(node)) {
			if (node->op == OP_PARAMETER)
				list_once(plan, role, node, listed);
			continue;
		}
		for (int k = 0; k < node->ins; k++)
			if (is_local_everywhere(node->in[k]->producer))
				list_once(plan, role, node->in[k]->producer, listed);
		list_add(plan->arena, &role->nodes[node->phase], node);
		role->holds_metrics |= node->op == OP_METRIC;
	}
}

static int compare_nodes(const void *left, const void *right)
{
	return (*(Node *const *)left)->id - (*(Node *const *)right)->id;
}

// Leaves come in the order in which the spec made them, then what the prologue computes.
static void order_prologue(Role *role)
{
	if (role->nodes[PHASE_PROLOGUE].count)
		qsort(role->nodes[PHASE_PROLOGUE].at, (size_t)role->nodes[PHASE_PROLOGUE].count, sizeof(Node *), compare_nodes);
}

// Updated weights of parameters that several stages use.
static void send_shared_parameters(Plan *plan)
{
	for (int i = 0; i < plan->graph->nodes.count; i++) {
		const Node *update = plan->graph->nodes.at[i];
		if (!is_update(update))
			continue;
		Node *parameter = update->in[0]->producer;
		for (int s = 0; s < plan->stages; s++)
			if (s != stage_of(plan, update) && has_node(&plan->roles[s], parameter))
				add_transfer(plan, update->in[0], stage_of(plan, update), s, TRANSFER_EPILOGUE, false);
	}
}

void make_roles(Plan *plan)
{
	plan->roles = arena_alloc(plan->arena, (size_t)plan->stages * sizeof *plan->roles);
	for (int s = 0; s < plan->stages; s++) {
		plan->roles[s].stage = s;
		assign_nodes(plan, &plan->roles[s]);
		order_prologue(&plan->roles[s]);
	}
	find_transfers(plan);
	send_shared_parameters(plan);
}
