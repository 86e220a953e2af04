// rounded.c: gradients of matrices in the compute type.
//
// A product adds up in full precision and rounds what it stores to the type that is asked for. Gradients are stored in full precision because
// micro-batches are added to them. With --gradients bf16, one that a single product makes, once in a step, is rounded there instead:
// to store, to reduce over replicas, to measure and to update it takes half the bytes. Gradients that several add to, and those of biases
// and of what norms have, which are sums over many rows and small, stay as they are.
#include "../graph/rules.h"
#include "plan.h"

// Whether a gradient is one product, which could be stored rounded.
static bool is_product(const Graph *graph, const Tensor *gradient)
{
	const Node *node = gradient->producer;
	return node->op == OP_MATMUL && node->attributes.typed && gradient->type == graph->master && node->in[0]->type == graph->real;
}

void round_gradients(Plan *plan)
{
	Graph *graph = plan->graph;
	if (!plan->rounded)
		return;
	if (plan->mesh[AXIS_MICRO] > 1)
		warn_at(NULL, "--gradients %s changes nothing in steps of %d micro-batches: their gradients are added up in %s", type_name(graph->real),
		        plan->mesh[AXIS_MICRO], type_name(graph->master));
	for (int i = 0; i < graph->parameters.count && plan->mesh[AXIS_MICRO] == 1; i++) {
		Tensor *gradient = graph->parameters.at[i]->gradient;
		if (!gradient || !is_product(graph, gradient))
			continue;
		gradient->producer->attributes.typed = false;
		gradient->type = graph->real;
	}
}
