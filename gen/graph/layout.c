// layout.c: the order of images in memory. Outside (the spec, files) images are [N,C,H,W] and filters [O,I,kh,kw]; inside, what
// convolutions, pooling and batch norm touch is channels-last, [N,H,W,C] and [O,kh,kw,I]: tensor cores want it so, and per-channel
// operands become plain broadcasts over the last dim.
//
// The forward nodes are visited in order. An op of images (IMAGE_OP in the table) gets its 4-d operands channels-last and
// gives its results so; an element-wise op follows its operands; everything else reads the spec's order. Where the two
// meet a transposition is inserted, or, where no element moves, a reshape. A filter that a convolution reads is stored
// channels-last, and the runtime permutes it when it reads and writes files.
#include <string.h>

#include "rules.h"

// The dim of [N,C,H,W] that lies at each place of [N,H,W,C], and back.
static const int in_last[4] = {0, 2, 3, 1}, in_first[4] = {0, 3, 1, 2};

typedef LIST(Tensor *) Tensors;

static void permute_tensor(Tensor *t)
{
	long shape[4];
	memcpy(shape, t->shape, sizeof shape);
	for (int i = 0; i < 4; i++)
		t->shape[i] = shape[in_last[i]];
	for (int axis = 0; axis < PLACED_AXES; axis++)
		if (t->pinned[axis] && t->place[axis].kind == SHARD)
			t->place[axis].dim = in_first[t->place[axis].dim];
	t->channels_last = true;
}

// Whether the two orders have the same bytes.
static bool is_same_in_both(const Tensor *t, bool channels_last)
{
	long channels = t->shape[channels_last ? 3 : 1];
	return channels == 1 || tensor_elements(t) == t->shape[0] * channels;
}

// t in the wanted order; made once for each block's first reader and those behind it.
static Tensor *in_order(Graph *graph, Tensors *made, Tensor *t, bool channels_last, const Node *reader)
{
	if (t->dims != 4 || t->channels_last == channels_last)
		return t;
	for (int i = 0; i < made->count; i++)
		if (made->at[i] == t)
			return t->producer->in[0];
	for (int i = 0; i < made->count; i++)
		if (made->at[i]->producer->in[0] == t)
			return made->at[i];
	Attributes to = {.channels_last = channels_last, .dims = 4};
	const int *order = channels_last ? in_last : in_first;
	for (int i = 0; i < 4; i++)
		to.shape[i] = t->shape[order[i]];
	const char *name = arena_printf(graph->arena, "%s.%s", t->name, channels_last ? "channels_last" : "channels_first");
	Op op = is_same_in_both(t, t->channels_last) ? OP_RESHAPE : OP_PERMUTE;
	Node *node = add_node(graph, op, name, reader->location, PHASE_FORWARD, &t, 1, &to);
	node->block = reader->block;
	node->out[0]->channels_last = channels_last;
	list_add(graph->arena, made, node->out[0]);
	return node->out[0];
}

static bool follows_operands(const Node *node)
{
	return (op_table[node->op].lowering == LOWER_ELEMENTWISE && node->op != OP_EXPAND) || node->op == OP_DROPOUT;
}

// An element-wise op can work channels-last when its operands are images and scalars alone.
static bool works_channels_last(const Node *node)
{
	bool any = false;
	for (int i = 0; i < node->ins; i++) {
		const Tensor *t = node->in[i];
		if (t->dims != 4 && t->dims != 0 && t->type != TYPE_I32)
			return false;
		any |= t->dims == 4 && t->channels_last;
	}
	return any;
}

// The dims of a sum when its operand is channels-last; false: it needs the spec's order.
static bool sums_channels_last(Node *node)
{
	Attributes *over = &node->attributes;
	if (node->op != OP_SUM || node->in[0]->dims != 4 || !node->in[0]->channels_last)
		return false;
	if (over->from == 2 && over->to == 4) { // [N,C]
		over->from = 1;
		over->to = 3;
		return true;
	}
	return over->to == 4 && over->from <= 1; // [N] or all
}

// A convolution with a bias is one without, and a sum.
static void split_bias(Graph *graph, Node *conv)
{
	if (conv->op != OP_CONV2D || conv->ins < 3)
		return;
	Tensor *y = conv->out[0];
	const char *name = arena_printf(graph->arena, "%s.bias", conv->name);
	Node *sum = add_node(graph, OP_ADD, name, conv->location, PHASE_FORWARD, (Tensor *[]){y, conv->in[2]}, 2, NULL);
	conv->ins = 2;
	sum->block = conv->block;
	sum->out[0]->channels_last = true;
	memcpy(sum->out[0]->pinned, y->pinned, sizeof y->pinned);
	memcpy(sum->out[0]->place, y->place, sizeof y->place);
	memset(y->pinned, 0, sizeof y->pinned);
	y->replaced_by = sum->out[0];
}

static void order_node(Graph *graph, Tensors *made, Node *node)
{
	bool images = op_table[node->op].images;
	for (int i = 0; i < node->ins; i++)
		if (node->in[i]->replaced_by)
			node->in[i] = node->in[i]->replaced_by;
	bool follows = follows_operands(node) && works_channels_last(node), last = images || follows || sums_channels_last(node);
	for (int i = 0; i < node->ins; i++)
		node->in[i] = in_order(graph, made, node->in[i], last, node);
	list_add(graph->arena, &graph->nodes, node);
	for (int i = 0; i < node->outs && (images || follows); i++)
		if (node->out[i]->dims == 4)
			permute_tensor(node->out[i]);
	split_bias(graph, node);
}

// Filters lie as convolutions read them.
static void order_filters(const Graph *graph)
{
	for (int i = 0; i < graph->nodes.count; i++) {
		const Node *node = graph->nodes.at[i];
		if (node->op == OP_CONV2D && node->in[1]->producer->op == OP_PARAMETER && !node->in[1]->channels_last)
			permute_tensor(node->in[1]);
	}
}

void layout_images(Graph *graph)
{
	Tensors made = {0};
	order_filters(graph);
	int count = graph->nodes.count;
	Node **nodes = arena_alloc(graph->arena, (size_t)(count + 1) * sizeof *nodes);
	for (int i = 0; i < count; i++)
		nodes[i] = graph->nodes.at[i];
	graph->nodes.count = 0;
	for (int i = 0; i < count; i++)
		order_node(graph, &made, nodes[i]);
	for (int i = 0; i < graph->results.count; i++) {
		Result *result = graph->results.at[i];
		if (result->tensor->replaced_by)
			result->tensor = result->tensor->replaced_by;
		result->tensor = in_order(graph, &made, result->tensor, false, result->tensor->producer);
	}
}
