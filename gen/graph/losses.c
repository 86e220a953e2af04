// losses.c: cross-entropy and its gradient in one, while training.
//
// Logits are usually the largest tensor of a model, and the loss of a row and the gradient of its logits need the same sum. Where
// a loss is the sum or mean of its rows, the gradient of each row's loss is one number that is known before the logits are, so
// that one pass over them can do both: the gradient is made in the forward pass and takes the place of the logits.
//
// A head that makes its logits chunk by chunk (linear_cross_entropy.c) has no other way: there it is done, or the loss refused.
//
// It is done for every plan or for none: what it asks for is known before anything is placed. Where tp shares out the classes it
// becomes several nodes again (gen/plan/classes.c).
#include <string.h>

#include "rules.h"

typedef LIST(Node *) Nodes;

static int readers(const Graph *graph, const Tensor *t)
{
	int n = 0;
	for (int i = 0; i < graph->nodes.count; i++)
		for (int k = 0; k < graph->nodes.at[i]->ins; k++)
			n += graph->nodes.at[i]->in[k] == t;
	for (int i = 0; i < graph->results.count; i++)
		n += graph->results.at[i]->tensor == t;
	return n;
}

// Whether t, a scalar that one node reads, needs nothing of this micro-batch; chain: the backward nodes that compute it, in order.
static bool is_known_before(const Graph *graph, const Tensor *t, Nodes *chain)
{
	Node *node = t->producer;
	if (node->phase == PHASE_PROLOGUE)
		return true;
	bool is_plain = node->op == OP_CONSTANT || node->op == OP_ADD || node->op == OP_MUL || node->op == OP_DIV || node->op == OP_SCALE;
	if (node->phase != PHASE_BACKWARD || !is_plain || t->dims || readers(graph, t) > 1)
		return false;
	for (int i = 0; i < node->ins; i++)
		if (!is_known_before(graph, node->in[i], chain))
			return false;
	list_add(graph->arena, chain, node);
	return true;
}

// Moves the nodes of the chain to just before `user`, in its phase and block.
static void move_before(Graph *graph, const Nodes *chain, const Node *user)
{
	Nodes order = {0};
	for (int i = 0; i < graph->nodes.count; i++) {
		Node *node = graph->nodes.at[i];
		bool moves = false;
		for (int k = 0; k < chain->count; k++)
			moves |= chain->at[k] == node;
		for (int k = 0; node == user && k < chain->count; k++) {
			chain->at[k]->phase = user->phase;
			chain->at[k]->block = user->block;
			list_add(graph->arena, &order, chain->at[k]);
		}
		if (!moves)
			list_add(graph->arena, &order, node);
	}
	for (int i = 0; i < order.count; i++)
		graph->nodes.at[i] = order.at[i];
}

// The forward node makes both; the gradient's own and what only it needed are left to remove_dead_nodes().
static void join(Graph *graph, Node *loss, Node *gradient, Tensor *slope, const Nodes *chain)
{
	Tensor *nll = loss->out[0], *dlogits = gradient->out[0];
	loss->out[1]->producer = gradient;
	gradient->out[0] = loss->out[1];
	loss->op = OP_CROSS_ENTROPY_AND_GRAD;
	loss->out[0] = dlogits;
	loss->out[1] = nll;
	dlogits->producer = loss;
	add_operand(loss, slope);
	move_before(graph, chain, loss);
}

// The same as t, a scalar, before `user`; NULL: it is not known there. copies: the nodes that compute it, in order.
static Tensor *known_before(Graph *graph, Tensor *t, const Node *user, Nodes *copies)
{
	const Node *node = t->producer;
	if (node->phase == PHASE_PROLOGUE)
		return t;
	bool is_plain = node->op == OP_CONSTANT || node->op == OP_ADD || node->op == OP_MUL || node->op == OP_DIV || node->op == OP_SCALE;
	if (node->phase != PHASE_BACKWARD || !is_plain || t->dims)
		return NULL;
	Tensor *in[MAX_INPUTS];
	for (int i = 0; i < node->ins; i++)
		if (!(in[i] = known_before(graph, node->in[i], user, copies)))
			return NULL;
	Node *copy = copy_node(graph, node, "before");
	memcpy(copy->in, in, (size_t)node->ins * sizeof *in);
	copy->phase = user->phase;
	copy->block = user->block;
	list_add(graph->arena, copies, copy);
	return copy->out[0];
}

static void insert_before(Graph *graph, const Nodes *nodes, const Node *user)
{
	int at = 0;
	while (graph->nodes.at[at] != user)
		at++;
	for (int k = 0; k < nodes->count; k++)
		list_add(graph->arena, &graph->nodes, nodes->at[k]);
	for (int i = graph->nodes.count - 1; i >= at + nodes->count; i--)
		graph->nodes.at[i] = graph->nodes.at[i - nodes->count];
	for (int k = 0; k < nodes->count; k++)
		graph->nodes.at[at + k] = nodes->at[k];
}

static void join_chunks(Graph *graph, Node *loss)
{
	enum { SLOPE = 3 };
	Node *expansion = loss->ins > SLOPE ? loss->in[SLOPE]->producer : NULL;
	Nodes copies = {0};
	Tensor *slope = expansion && expansion->op == OP_EXPAND ? known_before(graph, expansion->in[0], loss, &copies) : NULL;
	if (!slope)
		fail_at(loss->location, "linear_cross_entropy: %s\nuse mp.cross_entropy(mp.linear(x, weight), label) instead", expansion
		        ? "what it is multiplied by must be known before it is computed: it can be scaled by numbers and added to other losses"
		        : "it is no part of the loss that training minimises");
	loss->in[SLOPE] = slope;
	insert_before(graph, &copies, loss);
}

void join_losses(Graph *graph)
{
	for (int i = 0; i < graph->nodes.count; i++)
		if (graph->nodes.at[i]->op == OP_LINEAR_CROSS_ENTROPY) {
			Node *loss = graph->nodes.at[i];
			join_chunks(graph, loss);
			while (graph->nodes.at[i] != loss)
				i++;
		}
	for (int i = 0; i < graph->nodes.count; i++) {
		Node *gradient = graph->nodes.at[i];
		if (gradient->op != OP_CROSS_ENTROPY_GRAD)
			continue;
		Node *loss = gradient->in[2]->producer, *expansion = gradient->in[3]->producer;
		Nodes chain = {0};
		bool joins = loss->op == OP_CROSS_ENTROPY && loss->block == gradient->block && loss->in[0]->producer->block == loss->block
		    && readers(graph, loss->out[1]) == 1 && expansion->op == OP_EXPAND && readers(graph, expansion->out[0]) == 1
		    && is_known_before(graph, expansion->in[0], &chain);
		if (joins)
			join(graph, loss, gradient, expansion->in[0], &chain);
	}
}
