// differentiate.c: from the forward graph to the whole step: backward nodes, gradient sums, optimizer, results.
//
// Reverse-mode differentiation on logical tensors, before anything is placed: communication of the backward pass
// then follows from the same placement rules as that of the forward pass.
//
// The order of sums is fixed so that results do not depend on where stages are cut: cotangents of a tensor with
// several users are summed within each block first and then along the blocks from the last to the first; the sum
// for a block belongs to that block, so across stages it travels from user to user. A shared parameter has one
// sum for each block that uses it; these accumulate over micro-batches apart and are added once, in the epilogue,
// in the order of use.
#include <string.h>

#include "rules.h"

typedef struct {
	Tensor *sum;            // over the blocks so far, last block first; parameters: unused
	Tensor *group;          // of the block now being visited
	Node *user;             // the last node that contributed to group
	int users;              // forward nodes that will contribute
} Cotangent;

typedef LIST(Tensor *) Tensors;

typedef struct {
	Graph *graph;
	bool *reaches;          // by tensor id: the loss depends on it
	bool *wants;            // by tensor id: it depends on a parameter, and the loss on it
	Cotangent *cotangents;  // by tensor id
	Tensors *uses;          // by tensor id of a parameter: its gradient for each block, last block first
	int tensors;            // of the forward graph
} Differentiation;

static bool is_parameter(const Tensor *t)
{
	return t->producer->op == OP_PARAMETER;
}

// What a gradient is the gradient of: a working copy stands for its parameter.
static Tensor *differentiated(Tensor *t)
{
	Parameter *parameter = parameter_of(t);
	return parameter ? parameter->tensor : t;
}

static void find_paths(Differentiation *d, const Tensor *loss, int forward_nodes)
{
	Graph *graph = d->graph;
	d->reaches[loss->id] = true;
	for (int i = forward_nodes - 1; i >= 0; i--) {
		const Node *node = graph->nodes.at[i];
		bool reached = false;
		for (int k = 0; k < node->outs; k++)
			reached |= d->reaches[node->out[k]->id];
		for (int k = 0; reached && op_table[node->op].gradient && k < node->ins; k++)
			d->reaches[node->in[k]->id] = true;
	}
	for (int i = 0; i < forward_nodes; i++) {
		const Node *node = graph->nodes.at[i];
		bool depends = node->op == OP_PARAMETER && node->attributes.parameter->trained;
		for (int k = 0; op_table[node->op].gradient && k < node->ins; k++)
			depends |= d->wants[node->in[k]->id];
		for (int k = 0; k < node->outs; k++)
			d->wants[node->out[k]->id] = depends && d->reaches[node->out[k]->id] && node->out[k]->type != TYPE_I32;
	}
	for (int i = 0; i < forward_nodes; i++) {
		const Node *node = graph->nodes.at[i];
		for (int k = 0; node->outs && d->wants[node->out[0]->id] && !parameter_of(node->out[0]) && k < node->ins; k++)
			d->cotangents[differentiated(node->in[k])->id].users++;
	}
}

static Tensor *add(Differentiation *d, const char *name, const Node *user, Tensor *a, Tensor *b)
{
	Node *node = add_node(d->graph, OP_ADD, name, user->location, PHASE_BACKWARD, (Tensor *[]){a, b}, 2, NULL);
	node->block = user->block;
	return node->out[0];
}

// Closes the sum of the block just visited and adds it to the sum of later blocks.
static void close_group(Differentiation *d, Tensor *x)
{
	Cotangent *c = &d->cotangents[x->id];
	if (!c->group)
		return;
	if (is_parameter(x))
		list_add(d->graph->arena, &d->uses[x->id], c->group);
	else if (!c->sum)
		c->sum = c->group;
	else
		c->sum = add(d, arena_printf(d->graph->arena, "%s.grad_through_%s", x->name, c->user->name), c->user, c->sum, c->group);
	c->group = NULL;
}

static void contribute(Differentiation *d, Tensor *x, Node *user, Tensor *part)
{
	Cotangent *c = &d->cotangents[x->id];
	if (is_parameter(x))
		part->parameter = x;
	if (c->group && c->user->block != user->block)
		close_group(d, x);
	if (c->group)
		c->group = add(d, arena_printf(d->graph->arena, "%s.grad_with_%s", x->name, user->name), user, c->group, part);
	else
		c->group = part;
	c->user = user;
}

Type cotangent_type(const Tensor *x)
{
	return x->producer->op == OP_CAST ? x->producer->in[0]->type : x->type;
}

static Tensor *in_type_of(Gradient *g, int i, const Tensor *x)
{
	Attributes to = {.typed = true, .type = cotangent_type(x)};
	return g->din[i]->type == to.type ? g->din[i] : make_backward(g, OP_CAST, part_name(g, i, type_name(to.type)), &g->din[i], 1, &to);
}

static void visit(Differentiation *d, Node *node)
{
	Graph *graph = d->graph;
	if (!node->outs || !op_table[node->op].gradient || !d->wants[node->out[0]->id] || parameter_of(node->out[0]))
		return;
	Tensor *y = node->out[0];
	close_group(d, y);
	Tensor *dy = d->cotangents[y->id].sum;
	if (!dy)
		return;
	if (!dy->primal)
		dy->primal = y;
	Gradient g = {.graph = graph, .node = node, .dout = {dy}};
	for (int i = 0; i < node->ins; i++) {
		Tensor *x = differentiated(node->in[i]);
		g.wanted[i] = d->wants[x->id];
		const char *suffix = d->cotangents[x->id].users > 1 ? arena_printf(graph->arena, "grad_from_%s", node->name) : "grad";
		g.names[i] = arena_printf(graph->arena, "%s.%s", x->name, suffix);
	}
	op_table[node->op].gradient(&g);
	for (int i = 0; i < node->ins; i++)
		if (g.wanted[i] && g.din[i])
			contribute(d, differentiated(node->in[i]), node, in_type_of(&g, i, differentiated(node->in[i])));
}

// The sum over the blocks that use a parameter, in the order of use; NULL when the loss does not depend on it.
static Tensor *sum_uses(Differentiation *d, const Parameter *parameter)
{
	const Tensors *uses = &d->uses[parameter->tensor->id];
	Tensor *sum = NULL;
	for (int i = uses->count - 1; i >= 0; i--) {
		if (!sum) {
			sum = uses->at[i];
			continue;
		}
		const char *name = arena_printf(d->graph->arena, "%s.grad", parameter->name);
		Node *node = add_node(d->graph, OP_ADD, name, parameter->tensor->producer->location, PHASE_EPILOGUE,
		                      (Tensor *[]){sum, uses->at[i]}, 2, NULL);
		node->block = parameter->block;
		sum = node->out[0];
	}
	return sum;
}

// A parameter belongs to the block that uses it first.
static void find_owners(Graph *graph)
{
	for (int i = 0; i < graph->nodes.count; i++)
		for (int k = 0; k < graph->nodes.at[i]->ins; k++) {
			const Node *node = graph->nodes.at[i];
			if (is_parameter(node->in[k]) && node->in[k]->producer->attributes.parameter->block < 0)
				node->in[k]->producer->attributes.parameter->block = node->block;
		}
	for (int i = 0; i < graph->parameters.count; i++) {
		Parameter *parameter = graph->parameters.at[i];
		if (parameter->block < 0)
			parameter->block = 0;
		parameter->tensor->producer->block = parameter->block;
	}
}

// The number of valid labels that a mean divides by: the nearest count above it.
static Tensor *find_count(const Tensor *t)
{
	const Node *node = t->producer;
	if (node->op == OP_DIV && node->in[1]->producer->op == OP_COUNT_VALID)
		return node->in[1];
	for (int i = 0; i < node->ins && t->dims == 0; i++) {
		Tensor *count = find_count(node->in[i]);
		if (count)
			return count;
	}
	return NULL;
}

static Node *add_sink(Graph *graph, Op op, Result *result, Tensor *tensor, const char *name, int block, Node *count)
{
	Attributes attributes = {.result = result, .count = count};
	Node *node = add_node(graph, op, name, tensor->producer->location, PHASE_EPILOGUE, &tensor, 1, &attributes);
	node->block = block;
	return node;
}

// The metric that hands out a count; one for each, whoever divides by it.
static Node *count_sink(Graph *graph, Result *result, int block)
{
	for (int i = 0; i < graph->nodes.count; i++)
		if (graph->nodes.at[i]->op == OP_METRIC && graph->nodes.at[i]->in[0] == result->count)
			return graph->nodes.at[i];
	return add_sink(graph, OP_METRIC, result, result->count, arena_printf(graph->arena, "%s.count", result->name), block, NULL);
}

static const Result *find_loss(const Graph *graph)
{
	for (int i = 0; i < graph->results.count; i++)
		if (graph->results.at[i]->kind == RESULT_METRIC && !strcmp(graph->results.at[i]->name, "loss"))
			return graph->results.at[i];
	return NULL;
}

// Files hold full precision.
static Tensor *in_full(Graph *graph, Tensor *t)
{
	if (t->type != graph->real || t->type == graph->master)
		return t;
	Attributes to = {.typed = true, .type = graph->master};
	Node *node = add_node(graph, OP_CAST, arena_printf(graph->arena, "%s.%s", t->name, type_name(to.type)), t->producer->location, PHASE_FORWARD, &t, 1, &to);
	node->block = t->producer->block;
	return node->out[0];
}

// Metrics and their counts all go where the loss is, so that one rank knows them. What only evaluation needs comes last.
static void add_sinks(Graph *graph)
{
	for (int i = 0; i < graph->results.count; i++)
		if (graph->results.at[i]->kind == RESULT_OUTPUT && !graph->training)
			add_sink(graph, OP_OUTPUT, graph->results.at[i], in_full(graph, graph->results.at[i]->tensor), graph->results.at[i]->name,
			         graph->results.at[i]->tensor->producer->block, NULL);
	for (int evaluation = 0; evaluation < 2 && find_loss(graph) && (graph->training || graph->scores); evaluation++)
		for (int i = 0; i < graph->results.count; i++) {
			Result *result = graph->results.at[i];
			if (result->kind != RESULT_METRIC || result->evaluation != evaluation)
				continue;
			int block = find_loss(graph)->tensor->producer->block;
			result->evaluation &= graph->training;
			if (!result->count)
				result->count = find_count(result->tensor);
			Node *count = result->count ? count_sink(graph, result, block) : NULL;
			add_sink(graph, OP_METRIC, result, result->tensor, result->name, block, count);
		}
}

void differentiate(Graph *graph)
{
	find_owners(graph);
	if (graph->training) {
		Tensor *loss = find_loss(graph)->tensor;
		assert(loss->dims == 0);
		int forward_nodes = graph->nodes.count, n = graph->tensors.count;
		Arena *arena = graph->arena;
		Differentiation d = {graph, arena_alloc(arena, n), arena_alloc(arena, n), arena_alloc(arena, n * sizeof(Cotangent)),
		                     arena_alloc(arena, n * sizeof(Tensors)), n};
		find_paths(&d, loss, forward_nodes);
		Attributes one = {.scale = 1};
		Node *seed = add_node(graph, OP_CONSTANT, arena_printf(arena, "%s.grad", loss->name), loss->producer->location,
		                      PHASE_BACKWARD, NULL, 0, &one);
		seed->block = loss->producer->block;
		contribute(&d, loss, loss->producer, seed->out[0]);
		for (int i = forward_nodes - 1; i >= 0; i--)
			visit(&d, graph->nodes.at[i]);
		for (int i = 0; i < graph->parameters.count; i++) {
			Parameter *parameter = graph->parameters.at[i];
			close_group(&d, parameter->tensor);
			parameter->gradient = sum_uses(&d, parameter);
		}
		update_parameters(graph);
		update_running_statistics(graph);
	}
	add_sinks(graph);
	join_losses(graph);
	remove_dead_nodes(graph);
	sum_normalized_images(graph);
	sink_expansions(graph);
}
