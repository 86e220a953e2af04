// zero.c: what the optimizer keeps, shared out over replicas (ZeRO, stage 1).
//
// Replicas would all store the same parameters in full precision and the same state of the optimizer, and all apply the same update. With
// --zero 1 each stores and updates a part of every parameter alone. Gradients are then scattered where they would be all-reduced,
// as they are added up; and what a step computes with is gathered as its forward pass goes, in the compute type: over the links go as many
// bytes in f32, three quarters in bf16, and of the memory that the optimizer needs a replica has its part.
// What is stored where is all that is said here: conversions follow from it (place.c). The gathered tensor stands in the place of the stored one
// for whatever reads it but its update, so that the model itself is computed as without.
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

// ---- gradients

typedef struct {
	Plan *plan;
	Node **scatter;         // by tensor id: the epilogue's node that scatters the tensor, or packs it for that
	int *writes;            // by tensor id: how many steps of the backward pass are still to write it
	bool *moved;            // by node id: it is in the backward pass now
	Function backward;      // the new one
} Scattering;

static bool scatters(const Step *step)
{
	const Node *node = step->nodes.count ? step->nodes.at[0] : NULL;
	return node && (node->op == OP_REDUCE_SCATTER || node->op == OP_PACK) && node->attributes.axis == AXIS_DP;
}

static void append_scatter(Scattering *s, Node *node, int block)
{
	Step step = step_of_node(s->plan, node);
	step.block = block;
	step.when = s->plan->mesh[AXIS_MICRO] > 1 ? WHEN_LAST : WHEN_ALWAYS;
	add_access(s->plan, &step, node->in[0], false, 0);
	add_access(s->plan, &step, node->out[0], true, 0);
	list_add(s->plan->arena, &s->backward.steps, step);
	s->moved[node->id] = true;
}

// What scatters the tensors that no step is to write any more.
static void scatter_completed(Scattering *s, const Step *step, int block)
{
	for (int i = 0; i < step->accesses.count; i++) {
		const Tensor *t = step->accesses.at[i].tensor;
		if (!step->accesses.at[i].write || s->writes[t->id])
			continue;
		for (Node *node; (node = s->scatter[t->id]) && !s->moved[node->id]; t = node->out[0])
			append_scatter(s, node, block);
	}
}

static void count_writes(const Scattering *s, const Step *step, int by)
{
	for (int i = 0; i < step->accesses.count; i++)
		s->writes[step->accesses.at[i].tensor->id] += step->accesses.at[i].write ? by : 0;
}

static Scattering start_scattering(Plan *plan, Role *role)
{
	size_t tensors = (size_t)plan->graph->tensors.count + 1, nodes = (size_t)plan->graph->nodes.count + 1;
	Scattering s = {.plan = plan, .scatter = arena_alloc(plan->arena, tensors * sizeof *s.scatter),
	                .writes = arena_alloc(plan->arena, tensors * sizeof *s.writes), .moved = arena_alloc(plan->arena, nodes)};
	const Function *update = function_of(role, FUNCTION_UPDATE);
	s.backward = *function_of(role, FUNCTION_BACKWARD);
	for (int i = 0; i < s.backward.steps.count; i++)
		count_writes(&s, &s.backward.steps.at[i], 1);
	for (int i = 0; i < update->steps.count; i++)
		if (scatters(&update->steps.at[i]))
			s.scatter[root_of(update->steps.at[i].nodes.at[0]->in[0])->id] = update->steps.at[i].nodes.at[0];
	s.backward.steps.at = NULL;
	s.backward.steps.count = s.backward.steps.capacity = 0;
	return s;
}

void scatter_gradients(Plan *plan, Role *role)
{
	Function *backward = function_of(role, FUNCTION_BACKWARD), *update = function_of(role, FUNCTION_UPDATE);
	const Function *forward = function_of(role, FUNCTION_FORWARD);
	if (!plan->zero || !backward->steps.count)
		return;
	Scattering s = start_scattering(plan, role);
	for (int i = 0; i < forward->steps.count; i++)
		if (forward->steps.at[i].kind == STEP_CHUNKS) // it makes gradients with its losses
			scatter_completed(&s, &forward->steps.at[i], backward->steps.at[0].block);
	for (int i = 0; i < backward->steps.count; i++) {
		const Step *step = &backward->steps.at[i];
		list_add(plan->arena, &s.backward.steps, *step);
		count_writes(&s, step, -1);
		scatter_completed(&s, step, step->block);
	}
	*backward = s.backward;
	int kept = 0;
	for (int i = 0; i < update->steps.count; i++)
		if (!scatters(&update->steps.at[i]) || !s.moved[update->steps.at[i].nodes.at[0]->id])
			update->steps.at[kept++] = update->steps.at[i];
	update->steps.count = kept;
}
