// pooling.c: the rules of max, average and adaptive average pooling.
//
// Shapes are checked on the spec's images [N,C,H,W]; behind the pass `layout` they are [N,H,W,C].
#include "rules.h"

static void want_images(Graph *graph, Node *node)
{
	want_real(graph, node, 0);
	if (node->in[0]->dims != 4)
		fail_at(node->location, "%s: images [batch, channels, height, width] are needed, not %s", op_name(node->op),
		        tensor_text(graph, node->in[0]));
}

void shape_pool(Graph *graph, Node *node)
{
	const Window *window = &node->attributes.window;
	const Tensor *x = node->in[0];
	want_images(graph, node);
	long shape[4] = {x->shape[0], x->shape[1]};
	for (int i = 0; i < 2; i++) {
		shape[2 + i] = window_places(window, i, x->shape[2 + i]);
		if (shape[2 + i] < 1)
			fail_at(node->location, "%s: a window of %d is larger than the %s of %s with padding %d", op_name(node->op), window->kernel[i],
			        i ? "width" : "height", tensor_text(graph, x), window->padding[i]);
		if (window->padding[i] * 2 > window->kernel[i])
			fail_at(node->location, "%s: the padding %d is more than half of the window %d: some windows would hold padding only",
			        op_name(node->op), window->padding[i], window->kernel[i]);
	}
	add_output(graph, node, x->type, 4, shape);
	if (node->op == OP_MAX_POOL2D)
		add_named_output(graph, node, "index", TYPE_I32, 4, shape);
}

void shape_adaptive_pool(Graph *graph, Node *node)
{
	const Tensor *x = node->in[0];
	want_images(graph, node);
	const int *size = node->attributes.window.kernel;
	add_output(graph, node, x->type, 4, (long[]){x->shape[0], x->shape[1], size[0], size[1]});
}

static void pool_gradient(Gradient *g, Op op, Tensor *const *in, int ins)
{
	Attributes of = {.window = g->node->attributes.window};
	tell_shape(&of, g->node->in[0]);
	g->din[0] = make_backward(g, op, g->names[0], in, ins, &of);
}

void gradient_max_pool(Gradient *g)
{
	pool_gradient(g, OP_MAX_POOL2D_GRAD, (Tensor *[]){g->dout[0], g->node->out[1]}, 2);
}

void gradient_avg_pool(Gradient *g)
{
	pool_gradient(g, OP_AVG_POOL2D_GRAD, g->dout, 1);
}

void gradient_adaptive_pool(Gradient *g)
{
	pool_gradient(g, OP_ADAPTIVE_AVG_POOL2D_GRAD, g->dout, 1);
}

// Samples and channels are apart.
void placement_pool(const Node *node, Rules *rules)
{
	add_rule(rules);
	for (int d = 0; d < 4; d += 3) {
		Rule *rule = add_rule(rules);
		for (int i = 0; i < node->ins; i++)
			rule->in[i] = S(d);
		for (int i = 0; i < node->outs; i++)
			rule->out[i] = S(d);
	}
}

void placement_pool_gradient(const Node *node, Rules *rules)
{
	placement_pool(node, rules);
	add_linear(rules, 0);
}
