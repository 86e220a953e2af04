// convolution.c: the rules of 2-d convolution and its two gradients.
//
// The spec writes images [N,C,H,W] and filters [O,C/groups,kh,kw], as PyTorch does, and shape_conv2d reads them so. Behind the
// pass `layout` (layout.c) the same tensors are [N,H,W,C] and [O,kh,kw,C/groups]: every other rule here is about those.
#include "rules.h"

long window_places(const Window *window, int i, long extent)
{
	long reach = (long)window->dilation[i] * (window->kernel[i] - 1) + 1, free = extent + 2L * window->padding[i] - reach;
	return free < 0 ? 0 : free / window->stride[i] + 1;
}

static void check_operands(Graph *graph, Node *node)
{
	const Tensor *x = node->in[0], *w = node->in[1];
	int groups = node->attributes.window.groups;
	if (graph->real == TYPE_BF16)
		fail_at(node->location, "conv2d: convolutions in bf16 are not built yet\nuse --dtype f32 or tf32");
	want_reals(graph, node);
	if (x->dims != 4)
		fail_at(node->location, "conv2d: images [batch, channels, height, width] are needed, not %s", tensor_text(graph, x));
	if (w->dims != 4)
		fail_at(node->location, "conv2d: filters [out, in / groups, height, width] are needed, not %s", tensor_text(graph, w));
	if (x->shape[1] % groups || w->shape[0] % groups)
		fail_at(node->location, "conv2d: groups = %d divides neither or only one of the %ld input and %ld output channels of %s and %s",
		        groups, x->shape[1], w->shape[0], tensor_text(graph, x), tensor_text(graph, w));
	if (w->shape[1] * groups != x->shape[1])
		fail_at(node->location, "conv2d: %s has %ld channels, but the filters %s with groups = %d read %ld", tensor_text(graph, x),
		        x->shape[1], tensor_text(graph, w), groups, w->shape[1] * groups);
	if (node->ins > 2 && (node->in[2]->dims != 1 || node->in[2]->shape[0] != w->shape[0]))
		fail_at(node->location, "conv2d: the bias %s must have one element for each of the %ld output channels",
		        tensor_text(graph, node->in[2]), w->shape[0]);
}

void shape_conv2d(Graph *graph, Node *node)
{
	Window *window = &node->attributes.window;
	const Tensor *x = node->in[0], *w = node->in[1];
	check_operands(graph, node);
	long shape[4] = {x->shape[0], w->shape[0]};
	for (int i = 0; i < 2; i++) {
		window->kernel[i] = (int)w->shape[2 + i];
		shape[2 + i] = window_places(window, i, x->shape[2 + i]);
		if (shape[2 + i] < 1)
			fail_at(node->location, "conv2d: filters %s with dilation %d are larger than the %s of %s with padding %d", tensor_text(graph, w),
			        window->dilation[i], i ? "width" : "height", tensor_text(graph, x), window->padding[i]);
	}
	add_output(graph, node, graph->real, 4, shape);
}

// The output has the shape that the attributes say.
void shape_told(Graph *graph, Node *node)
{
	add_output(graph, node, graph->real, node->attributes.dims, node->attributes.shape);
}

void tell_shape(Attributes *attributes, const Tensor *t)
{
	attributes->dims = t->dims;
	for (int i = 0; i < t->dims; i++)
		attributes->shape[i] = t->shape[i];
}

void gradient_conv2d(Gradient *g)
{
	Tensor *x = g->node->in[0], *w = g->node->in[1], *d = g->dout[0];
	Attributes of = {.window = g->node->attributes.window};
	if (g->wanted[1]) { // first, so that its all-reduce can start earlier
		tell_shape(&of, w);
		g->din[1] = make_backward(g, OP_CONV2D_WEIGHT_GRAD, g->names[1], (Tensor *[]){d, x}, 2, &of);
	}
	if (g->wanted[0]) {
		tell_shape(&of, x);
		g->din[0] = make_backward(g, OP_CONV2D_INPUT_GRAD, g->names[0], (Tensor *[]){d, w}, 2, &of);
	}
}

static void add_shards(Rules *rules, Placement first, Placement second, Placement result)
{
	Rule *rule = add_rule(rules);
	rule->in[0] = first;
	rule->in[1] = second;
	rule->out[0] = result;
}

// Replicas, sums that have not ended, and samples; then channels: with groups, whole groups.
void placement_conv2d(const Node *node, Rules *rules)
{
	add_rule(rules);
	add_linear(rules, 0);
	add_linear(rules, 1);
	add_shards(rules, S(0), R, S(0));
	if (node->attributes.window.groups > 1) {
		add_shards(rules, S(3), S(0), S(3));
		return;
	}
	add_shards(rules, R, S(0), S(3));
	add_shards(rules, S(3), S(3), P);
}

void placement_conv2d_input_grad(const Node *node, Rules *rules)
{
	add_rule(rules);
	add_linear(rules, 0);
	add_linear(rules, 1);
	add_shards(rules, S(0), R, S(0));
	if (node->attributes.window.groups > 1) {
		add_shards(rules, S(3), S(0), S(3));
		return;
	}
	add_shards(rules, R, S(3), S(3));
	add_shards(rules, S(3), S(0), P);
}

void placement_conv2d_weight_grad(const Node *node, Rules *rules)
{
	add_rule(rules);
	add_linear(rules, 0);
	add_linear(rules, 1);
	add_shards(rules, S(0), S(0), P);
	if (node->attributes.window.groups > 1) {
		add_shards(rules, S(3), S(3), S(0));
		return;
	}
	add_shards(rules, S(3), R, S(0));
	add_shards(rules, R, S(3), S(3));
}

// Two operations for each pixel of y, output channel and weight of its filter.
double cost_conv2d(const Node *node)
{
	const Tensor *y = node->op == OP_CONV2D ? node->out[0] : node->in[0];
	const Tensor *w = node->op == OP_CONV2D_WEIGHT_GRAD ? node->out[0] : node->in[1];
	return 2.0 * (double)tensor_elements(y) * (double)(tensor_elements(w) / w->shape[0]);
}
