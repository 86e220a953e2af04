// classes.c: cross-entropy and accuracy of logits whose classes tp shares out.
//
// Each device takes of its own classes what is needed to combine them: the largest logit, the sum of exponentials below it
// and the label's logit; for accuracy the largest logit and its class. These few numbers a row are gathered instead of the
// logits, and every device combines them alike. The gradient needs nothing of other devices (placement_cross_entropy_grad).
#include <string.h>

#include "../graph/ops.h"
#include "place.h"

// Gathering the numbers of n devices, three a row, against the least that moving the logits to whole rows could take.
static bool is_worth_it(const Tensor *logits, int n)
{
	return 3L * n * n <= logits->shape[logits->dims - 1];
}

// A new node of the lists that place_tensors makes.
static Node *add_apart(Graph *graph, Op op, const Node *node, const char *what, Tensor *const *in, int ins)
{
	Attributes of = {.parts = node->attributes.parts, .classes = node->attributes.classes};
	Node *apart = add_node(graph, op, arena_printf(graph->arena, "%s.%s", node->name, what), node->location, node->phase, in, ins, &of);
	graph->nodes.count--; // it belongs to the new lists
	apart->block = node->block;
	apart->evaluation = node->evaluation;
	return apart;
}

// A loss that is joined with its gradient becomes the gradient, behind a node that combines what the devices know.
static Node *split_loss(Graph *graph, Node *node, Tensor *sums)
{
	Node *combined = add_apart(graph, OP_CROSS_ENTROPY_OF_SUMS, node, "loss", (Tensor *[]){sums, node->in[1]}, 2);
	const Tensor *nll = combined->out[combined->outs++] = node->out[1];
	combined->out[0]->producer = combined;
	Tensor *slope = node->in[2];
	node->op = OP_CROSS_ENTROPY_GRAD;
	node->attributes.parts = 0;
	node->outs = 1;
	node->in[2] = add_named_output(graph, combined, "statistics", nll->type, nll->dims, nll->shape);
	add_operand(node, slope);
	return combined;
}

// A head that makes its logits chunk by chunk does the same in its loop, and needs memory for what it gathers of a chunk.
static void share_out_chunks(Placing *p, Node *node)
{
	Graph *graph = p->graph;
	int n = p->plan->mesh[AXIS_TP];
	if (n == 1 || !same_placement(node->in[1]->place[AXIS_TP], (Placement){SHARD, 0}))
		return;
	const Tensor *losses = node->out[CHUNKED_LOSSES];
	long rows = node->out[CHUNKED_LOGITS]->shape[0];
	node->attributes.parts = n;
	add_named_output(graph, node, "class_sums", losses->type, 3, (long[]){n, 3, rows});
	add_named_output(graph, node, "statistics", losses->type, 1, &rows);
}

Node *split_classes(Placing *p, Node *node)
{
	if (node->op == OP_LINEAR_CROSS_ENTROPY)
		share_out_chunks(p, node);
	if (node->op != OP_CROSS_ENTROPY && node->op != OP_CROSS_ENTROPY_AND_GRAD && node->op != OP_CORRECT)
		return NULL;
	Graph *graph = p->graph;
	const Tensor *logits = node->in[0];
	int n = p->plan->mesh[AXIS_TP];
	if (n == 1 || !same_placement(logits->place[AXIS_TP], (Placement){SHARD, logits->dims - 1}) || !is_worth_it(logits, n)
	    || logits->dims + 1 > MAX_DIMS)
		return NULL;
	bool loss = node->op != OP_CORRECT;
	node->attributes.parts = n;
	Node *local = add_apart(graph, loss ? OP_CLASS_SUMS : OP_CLASS_BEST, node, loss ? "class_sums" : "class_best", node->in, 2);
	if (node->op == OP_CROSS_ENTROPY_AND_GRAD) {
		place_node(p, local);
		return split_loss(graph, node, local->out[0]);
	}
	node->op = loss ? OP_CROSS_ENTROPY_OF_SUMS : OP_CORRECT_OF_BEST;
	node->in[0] = local->out[0];
	return local;
}
