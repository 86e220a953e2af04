// embedding.c: the rules of looking up rows of a table, and of exchanging two dims.
//
// A table that lies over tp by its rows (vocabulary parallel) gives partial results: each device looks up the ids that are
// its own and gives zeros for the others. The gradient adds up what one id receives in the order of the positions.
#include <string.h>

#include "rules.h"

Tensor *origin_of(Tensor *t)
{
	while (t->producer->op == OP_TRANSPOSE || t->producer->op == OP_RESHAPE)
		t = t->producer->in[0];
	return t;
}

void shape_transpose(Graph *graph, Node *node)
{
	const Tensor *x = node->in[0];
	const Attributes *of = &node->attributes;
	assert(of->from >= 0 && of->from < of->to && of->to < x->dims);
	long shape[MAX_DIMS];
	for (int i = 0; i < x->dims; i++)
		shape[i] = x->shape[i == of->from ? of->to : i == of->to ? of->from : i];
	add_output(graph, node, x->type, x->dims, shape);
}

void gradient_transpose(Gradient *g)
{
	g->din[0] = make_backward(g, OP_TRANSPOSE, g->names[0], g->dout, 1, &g->node->attributes);
}

void placement_transpose(const Node *node, Rules *rules)
{
	const Attributes *of = &node->attributes;
	add_rule(rules);
	for (int d = 0; d < node->in[0]->dims; d++) {
		Rule *rule = add_rule(rules);
		rule->in[0] = S(d);
		rule->out[0] = S(d == of->from ? of->to : d == of->to ? of->from : d);
	}
	Rule *rule = add_rule(rules);
	rule->in[0] = rule->out[0] = P;
}

// Ids that come from the data are smaller than the rows that they are looked up in.
static void limit_ids(Graph *graph, const Node *node, const Node *origin, long rows)
{
	if (origin->op != OP_INPUT)
		return;
	Input *input = origin->attributes.input;
	if (rows < input->vocabulary)
		fail_at(node->location, "embedding: '%s' are ids of a vocabulary of %ld, but the table %s has %ld rows", input->name,
		        input->vocabulary, tensor_text(graph, node->in[1]), rows);
	if (!input->vocabulary && (!input->limit || rows < input->limit))
		input->limit = rows;
}

// ids i32 [..], table [rows,columns] -> [..,columns].
void shape_embedding(Graph *graph, Node *node)
{
	Tensor *ids = node->in[0];
	const Tensor *table = node->in[1];
	if (ids->type != TYPE_I32)
		fail_at(node->location, "embedding: the ids %s must be i32, not %s\ndeclare them as { \"i32\" } in the data",
		        tensor_text(graph, ids), type_name(ids->type));
	want_master(graph, node, 1);
	want_real(graph, node, 1);
	if (table->dims != 2 || ids->dims == MAX_DIMS)
		fail_at(node->location, "embedding: %s cannot be looked up in %s\na table has two dims, and ids at most %d",
		        tensor_text(graph, ids), tensor_text(graph, table), MAX_DIMS - 1);
	long shape[MAX_DIMS];
	for (int i = 0; i < ids->dims; i++)
		shape[i] = ids->shape[i];
	shape[ids->dims] = table->shape[1];
	add_output(graph, node, graph->real, ids->dims + 1, shape);
	limit_ids(graph, node, origin_of(ids)->producer, table->shape[0]);
}

// Of the table; and working memory: the order of the positions by their ids, twice, and the ids in that order; the counts of a
// radix sort's pass; a row for each 64 positions.
void shape_embedding_grad(Graph *graph, Node *node)
{
	enum { SORT_CHUNKS = 64, SORT_DIGITS = 512 }; // of runtime/mp_sort.h
	const Tensor *ids = node->in[0];
	long order[MAX_DIMS] = {3}, counts[] = {SORT_CHUNKS, SORT_DIGITS}, heads[] = {node->attributes.chunks, node->attributes.shape[1]};
	memcpy(order + 1, ids->shape, (size_t)ids->dims * sizeof *order);
	add_output(graph, node, graph->master, node->attributes.dims, node->attributes.shape);
	add_named_output(graph, node, "order", TYPE_I32, ids->dims + 1, order);
	add_named_output(graph, node, "counts", TYPE_I32, 2, counts);
	add_named_output(graph, node, "heads", graph->master, 2, heads);
}

void gradient_embedding(Gradient *g)
{
	const Tensor *ids = g->node->in[0];
	long positions = tensor_elements(ids) / g->graph->microbatches; // of all replicas, which may gather them (place.c)
	Attributes of = {.chunks = (positions + 63) / 64};
	tell_shape(&of, g->node->in[1]);
	g->din[1] = make_backward(g, OP_EMBEDDING_GRAD, g->names[1], (Tensor *[]){g->node->in[0], g->dout[0]}, 2, &of);
}

void placement_embedding(const Node *node, Rules *rules)
{
	int dims = node->in[0]->dims;
	add_rule(rules);
	for (int d = 0; d < dims; d++) {
		Rule *rule = add_rule(rules);
		rule->in[0] = rule->out[0] = S(d);
	}
	Rule *columns = add_rule(rules);
	columns->in[1] = S(1), columns->out[0] = S(dims);
	Rule *rows = add_rule(rules);
	rows->in[1] = S(0), rows->out[0] = P;
	rows->on = ON_TP;
}

void placement_embedding_grad(const Node *node, Rules *rules)
{
	int dims = node->in[0]->dims;
	add_rule(rules);
	for (int d = 0; d < dims; d++) {
		Rule *rule = add_rule(rules);
		rule->in[0] = rule->in[1] = S(d), rule->out[1] = S(d + 1);
		rule->out[0] = rule->out[2] = rule->out[3] = P;
	}
	Rule *columns = add_rule(rules);
	columns->in[1] = S(dims), columns->out[0] = columns->out[3] = S(1);
	columns->on = ON_TP;
	for (int k = 0; k < 2; k++) {
		Rule *rows = add_rule(rules);
		rows->out[0] = S(0);
		rows->on = k ? ON_DP : ON_TP;
	}
}
