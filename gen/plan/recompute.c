// recompute.c: activations that the backward pass makes again, in place of keeping them from the forward pass.
//
// What the forward pass makes and the backward pass reads is kept for every micro-batch in flight; that is most of the
// memory of training. A node of the forward pass is copied into the backward pass, in front of the first node there that
// reads its result. The copy computes the same of the same operands, masks of dropout included, and updates no state.
// What another block reads is never made again: a plan may cut there, and every plan shall keep the same.
//   selective  element-wise nodes and kernels of rows, where what need not be kept is a good part of the bytes that they move,
//              and everything that they read is there anyway: norms, activations, gates, dropout. Of sequences that tp splits each device
//              keeps its part and gathers the others again.
//   full       besides, everything inside a unit of repetition (mp.block): of a layer only what comes into it is kept.
// (Korthikanti et al., Reducing Activation Recomputation in Large Transformer Models, 2022; Chen et al., Training Deep Nets with
// Sublinear Memory Cost, 2016.)
#include "cost.h"

// A selective copy must save this part of the bytes that it, and what is made again for it alone, reads and writes: a GELU
// behind a norm or a dropout behind a GELU save a little less than a quarter.
static const double WORTH = 0.2;

typedef LIST(Node *) Nodes;

typedef struct {
	Plan *plan;
	int kind;               // of Plan.recompute
	bool *needed;           // by tensor id: the backward pass reads it, or something that is its bytes
	bool *kept;             // by tensor id: must be kept whatever is recomputed
	bool *again;            // by tensor id: may be made again
	double *cost;           // by tensor id: bytes moved to make it again, where nothing else asks for it; 0: it is there
	Tensor **copies;        // by tensor id: what was made again; NULL: not yet
	Nodes nodes;            // the graph's new list
} Recompute;

static bool is_alias(const Node *node)
{
	return op_table[node->op].lowering == LOWER_ALIAS;
}

static void mark(Recompute *r, const Tensor *t, bool needed, bool kept)
{
	for (;; t = t->producer->in[0]) {
		r->needed[t->id] |= needed;
		r->kept[t->id] |= kept;
		if (!is_alias(t->producer))
			return;
	}
}

// Of a sequence that tp splits: what comes from the other devices, and how it is put together.
static bool is_gather(const Node *node)
{
	return (node->op == OP_ALL_GATHER || node->op == OP_UNPACK) && node->attributes.axis == AXIS_TP && node->attributes.dim == 0;
}

// What is read behind the forward pass, and what cannot be a copy there: the copy is at hand only in its block. What is gathered again
// needs the device's own part.
static void find_needed(Recompute *r)
{
	const Graph *graph = r->plan->graph;
	for (int i = 0; i < graph->nodes.count; i++) {
		const Node *node = graph->nodes.at[i];
		bool behind = node->phase == PHASE_BACKWARD || node->phase == PHASE_EPILOGUE;
		for (int k = 0; k < node->ins; k++)
			if (node->in[k]->producer->phase == PHASE_FORWARD)
				mark(r, node->in[k], behind, node->phase == PHASE_EPILOGUE || node->in[k]->producer->block != node->block);
	}
	for (int i = graph->nodes.count - 1; i >= 0; i--) {
		const Node *node = graph->nodes.at[i];
		if (is_gather(node) && node->phase == PHASE_FORWARD && r->needed[node->out[0]->id] && !r->kept[node->out[0]->id])
			mark(r, node->in[0], true, false);
	}
}

static bool is_sink(const Node *node)
{
	return node->op == OP_METRIC || node->op == OP_OUTPUT;
}

static double cost_of(const Recompute *r, const Node *node)
{
	double bytes = is_alias(node) ? 0 : node_bytes(r->plan, node);
	for (int k = 0; k < node->ins; k++)
		bytes += r->cost[node->in[k]->id];
	return bytes;
}

// What is not needed itself may be a step on the way to what is.
static bool is_worth_it(const Recompute *r, const Node *node)
{
	double saved = 0;
	bool needed = false;
	for (int k = 0; k < node->outs; k++)
		if (r->needed[node->out[k]->id]) {
			needed = true;
			saved += (double)local_bytes(r->plan, node->out[k]);
		}
	return !needed || saved >= WORTH * cost_of(r, node);
}

static bool is_cheap(const Recompute *r, const Node *node)
{
	Lowering lowering = op_table[node->op].lowering;
	bool simple = lowering == LOWER_ELEMENTWISE || (lowering == LOWER_KERNEL && node->op != OP_CLEAR_PADDING && !may_overwrite(node));
	return simple && node->out[0]->type == r->plan->graph->real && is_worth_it(r, node);
}

// Whether all of a node's block is to be made again.
static bool is_in_unit(const Recompute *r, const Node *node)
{
	return r->kind == RECOMPUTE_FULL && r->plan->graph->blocks.at[node->block].unit;
}

// Whether the backward pass can read t without its being kept for that alone.
static bool is_there(const Recompute *r, const Tensor *t, const Node *reader)
{
	if (t->producer->phase != PHASE_FORWARD || r->again[t->id] || r->needed[t->id])
		return true;
	return is_in_unit(r, reader) && t->producer->block != reader->block;
}

// Another name for bytes comes along with them.
static bool is_chosen(const Recompute *r, const Node *node)
{
	if (is_alias(node))
		return r->again[node->in[0]->id];
	return is_in_unit(r, node) || is_gather(node) || is_cheap(r, node);
}

static bool may_copy(const Recompute *r, const Node *node)
{
	if (r->kind == RECOMPUTE_NONE || node->phase != PHASE_FORWARD || node->evaluation || node->accumulate || is_sink(node))
		return false;
	if (!is_chosen(r, node) || op_table[node->op].lowering == LOWER_CHUNKS) // its gradients are what is kept
		return false;
	for (int k = 0; k < node->outs; k++)
		if (r->kept[node->out[k]->id])
			return false;
	for (int k = 0; k < node->ins; k++)
		if (!is_there(r, node->in[k], node))
			return false;
	return true;
}

static void choose(Recompute *r)
{
	const Graph *graph = r->plan->graph;
	for (int i = 0; i < graph->nodes.count; i++) {
		const Node *node = graph->nodes.at[i];
		bool again = may_copy(r, node);
		for (int k = 0; k < node->outs; k++) {
			int id = node->out[k]->id;
			r->again[id] = again;
			r->cost[id] = again && !r->needed[id] ? cost_of(r, node) : 0;
		}
	}
}

// What a backward node reads in t's place; what that needs is made first.
static Tensor *made_again(Recompute *r, Tensor *t)
{
	if (!r->again[t->id])
		return t;
	if (!r->copies[t->id]) {
		Node *original = t->producer, *copy = copy_node(r->plan->graph, original, "again");
		copy->phase = PHASE_BACKWARD;
		copy->again = true;
		for (int k = 0; k < copy->ins; k++)
			copy->in[k] = made_again(r, copy->in[k]);
		for (int k = 0; k < copy->outs; k++)
			r->copies[original->out[k]->id] = copy->out[k];
		list_add(r->plan->arena, &r->nodes, copy);
	}
	return r->copies[t->id];
}

static void copy_what_is_read(Recompute *r)
{
	Graph *graph = r->plan->graph;
	int tensors = graph->tensors.count; // copies are not copied again
	for (int i = 0; i < graph->nodes.count; i++) {
		Node *node = graph->nodes.at[i];
		for (int k = 0; k < node->ins && node->phase == PHASE_BACKWARD; k++)
			if (node->in[k]->id < tensors)
				node->in[k] = made_again(r, node->in[k]);
		list_add(r->plan->arena, &r->nodes, node);
	}
	replace_nodes(r->plan, r->nodes.at, r->nodes.count);
}

// ---- how much is kept

static void count_kept(const Recompute *r, Tensor *t, bool *counted, double *bytes)
{
	Node *producer = t->producer;
	if (producer->phase != PHASE_FORWARD || counted[t->id])
		return;
	counted[t->id] = true;
	if (is_alias(producer) || r->again[t->id])
		for (int k = 0; k < producer->ins; k++)
			count_kept(r, producer->in[k], counted, bytes);
	else
		*bytes += (double)local_bytes(r->plan, t);
}

// Bytes of a micro-batch that the forward pass hands to the backward pass, on all stages together.
static double kept_bytes(const Recompute *r)
{
	const Graph *graph = r->plan->graph;
	bool *counted = arena_alloc(r->plan->arena, (size_t)graph->tensors.count);
	double bytes = 0;
	for (int i = 0; i < graph->nodes.count; i++) {
		const Node *node = graph->nodes.at[i];
		for (int k = 0; k < node->ins && node->phase == PHASE_BACKWARD; k++)
			count_kept(r, node->in[k], counted, &bytes);
	}
	return bytes;
}

void recompute_activations(Plan *plan)
{
	size_t tensors = (size_t)plan->graph->tensors.count;
	Recompute r = {.plan = plan, .needed = arena_alloc(plan->arena, tensors), .kept = arena_alloc(plan->arena, tensors),
	               .again = arena_alloc(plan->arena, tensors), .cost = arena_alloc(plan->arena, tensors * sizeof *r.cost),
	               .copies = arena_alloc(plan->arena, tensors * sizeof *r.copies)};
	find_needed(&r);
	for (int kind = RECOMPUTE_NONE; kind <= RECOMPUTE_FULL; kind++) {
		r.kind = kind;
		choose(&r);
		plan->kept_bytes[kind] = kept_bytes(&r);
	}
	if (plan->recompute == RECOMPUTE_NONE)
		return;
	r.kind = plan->recompute;
	choose(&r);
	copy_what_is_read(&r);
}
