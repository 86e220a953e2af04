// swiglu.c: the rules of SwiGLU (Shazeer, arXiv:2002.05202): [..,2,n] -> [..,n], silu of the first half times the second.
#include <string.h>

#include "rules.h"

void shape_swiglu(Graph *graph, Node *node)
{
	const Tensor *x = node->in[0];
	want_real(graph, node, 0);
	if (x->dims < 2 || x->shape[x->dims - 2] != 2)
		fail_at(node->location, "swiglu: gate and value [.., 2, width] are needed, not %s", tensor_text(graph, x));
	long shape[MAX_DIMS];
	memcpy(shape, x->shape, sizeof shape);
	shape[x->dims - 2] = x->shape[x->dims - 1];
	add_output(graph, node, graph->real, x->dims - 1, shape);
}

void gradient_swiglu(Gradient *g)
{
	Attributes of = {0};
	tell_shape(&of, g->node->in[0]);
	g->din[0] = make_backward(g, OP_SWIGLU_GRAD, g->names[0], (Tensor *[]){g->dout[0], g->node->in[0]}, 2, &of);
}

// Dim d of the rows [..,n] is the dim of [..,2,n] that skips the halves.
static Placement of_both(const Tensor *rows, int d)
{
	return S(d < rows->dims - 1 ? d : d + 1);
}

void placement_swiglu(const Node *node, Rules *rules)
{
	add_rule(rules);
	for (int d = 0; d < node->out[0]->dims; d++) {
		Rule *rule = add_rule(rules);
		rule->in[0] = of_both(node->out[0], d);
		rule->out[0] = S(d);
	}
}

void placement_swiglu_grad(const Node *node, Rules *rules)
{
	add_rule(rules);
	for (int d = 0; d < node->in[0]->dims; d++) {
		Rule *rule = add_rule(rules);
		rule->in[0] = S(d);
		rule->in[1] = rule->out[0] = of_both(node->in[0], d);
	}
	add_linear(rules, 0);
}
