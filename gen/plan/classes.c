// classes.c: cross-entropy and accuracy of logits whose classes tp shares out.
//
// Each device takes of its own classes what is needed to combine them: the largest logit, the sum of exponentials below it
// and the label's logit; for accuracy the largest logit and its class. These few numbers a row are gathered instead of the
// logits, and every device combines them alike. The gradient needs nothing of other devices (placement_cross_entropy_grad).
#include <string.h>

#include "place.h"

// Gathering the numbers of n devices, three a row, against the least that moving the logits to whole rows could take.
static bool is_worth_it(const Tensor *logits, int n)
{
	return 3L * n * n <= logits->shape[logits->dims - 1];
}

Node *split_classes(Placing *p, Node *node)
{
	if (node->op != OP_CROSS_ENTROPY && node->op != OP_CORRECT)
		return NULL;
	Graph *graph = p->graph;
	const Tensor *logits = node->in[0];
	int n = p->plan->mesh[AXIS_TP];
	if (n == 1 || !same_placement(logits->place[AXIS_TP], (Placement){SHARD, logits->dims - 1}) || !is_worth_it(logits, n)
	    || logits->dims + 1 > MAX_DIMS)
		return NULL;
	bool loss = node->op == OP_CROSS_ENTROPY;
	Attributes of = {.parts = n, .classes = node->attributes.classes};
	const char *name = arena_printf(graph->arena, "%s.%s", node->name, loss ? "class_sums" : "class_best");
	Node *local = add_node(graph, loss ? OP_CLASS_SUMS : OP_CLASS_BEST, name, node->location, node->phase, node->in, 2, &of);
	graph->nodes.count--; // it belongs to the new lists
	local->block = node->block;
	local->evaluation = node->evaluation;
	node->op = loss ? OP_CROSS_ENTROPY_OF_SUMS : OP_CORRECT_OF_BEST;
	node->attributes.parts = n;
	node->in[0] = local->out[0];
	return local;
}
