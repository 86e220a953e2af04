// costs.c: the cost column of the op table: floating-point operations of a node over its whole (global) tensors.
// The plan divides by the axes that split the work; bytes moved follow from the operands.
#include "ops.h"

double cost_matmul(const Node *node)
{
	const Tensor *a = node->in[0], *b = node->in[1];
	long last = b->shape[b->dims - 1], n = node->attributes.transpose == MATMUL_NT ? tensor_elements(b) / last : last;
	double whole = 2.0 * (double)tensor_elements(a) * (double)n;
	return node->attributes.parts ? whole / (double)node->attributes.parts : whole;
}

double cost_elements(const Node *node)
{
	return (double)tensor_elements(node->in[0]);
}

// An exponential counts as about eight operations.
double cost_rows(const Node *node)
{
	return 10.0 * (double)tensor_elements(node->in[0]);
}

double cost_update(const Node *node)
{
	return 6.0 * (double)tensor_elements(node->in[0]);
}
