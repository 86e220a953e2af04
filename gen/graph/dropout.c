// dropout.c: the rules of dropout.
//
// Whether an element is dropped depends on the seed, the layer's name, the step and the element's index in the whole batch,
// so every plan drops the same ones, and the backward pass draws the mask again instead of keeping it.
//   Srivastava et al., JMLR 15 (2014): what is kept is divided by 1 - rate.
#include <stdlib.h>

#include "rules.h"

// Tells layers apart: FNV-1a of the name without its numbers, and each number times a weight of its own, so that the layers
// of a model, whose names count up, have numbers that rise evenly.
unsigned dropout_number(const char *name)
{
	unsigned hash = 0x811c9dc5u, numbers = 0, weight = 0x9e3779b1u;
	while (*name) {
		char *end;
		unsigned long number = strtoul(name, &end, 10);
		if (*name >= '0' && *name <= '9') {
			numbers += (unsigned)number * weight;
			weight *= 0x85ebca6bu;
			name = end;
		} else {
			hash = (hash ^ (unsigned char)*name++) * 0x01000193u;
		}
	}
	return hash + numbers;
}

// Seed and step, one for the whole graph.
Tensor *random_key(Graph *graph, const Location *location)
{
	for (int i = 0; i < graph->inputs.count; i++)
		if (graph->inputs.at[i]->kind == INPUT_RANDOM_KEY)
			return graph->inputs.at[i]->tensor;
	Input *input = add_input(graph, "random_key", location, TYPE_I32, 1, (long[]){4});
	input->kind = INPUT_RANDOM_KEY;
	for (int axis = 0; axis < PLACED_AXES; axis++)
		input->tensor->place[axis] = R;
	return input->tensor;
}

Tensor *add_dropout(Graph *graph, const char *name, const Location *location, Tensor *x, double rate)
{
	Attributes of = {.scale = rate};
	Node *node = add_node(graph, OP_DROPOUT, name, location, PHASE_FORWARD, (Tensor *[]){x, random_key(graph, location)}, 2, &of);
	node->attributes.layer = dropout_number(node->name); // the name that is the node's alone
	return node->out[0];
}

void shape_dropout(Graph *graph, Node *node)
{
	want_real(graph, node, 0);
	add_output(graph, node, graph->real, node->in[0]->dims, node->in[0]->shape);
}

void gradient_dropout(Gradient *g)
{
	g->din[0] = make_backward(g, OP_DROPOUT, g->names[0], (Tensor *[]){g->dout[0], g->node->in[1]}, 2, &g->node->attributes);
}

void placement_dropout(const Node *node, Rules *rules)
{
	add_rule(rules);
	for (int d = 0; d < node->in[0]->dims; d++) {
		Rule *rule = add_rule(rules);
		rule->in[0] = rule->out[0] = S(d);
	}
}
