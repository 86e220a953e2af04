// shapes.c: the shape rules of the op table. A rule checks the operands of a node that the user wrote, says what
// does not fit with both shapes, and makes the outputs.
#include <string.h>

#include "rules.h"

const char *tensor_text(Graph *graph, const Tensor *t)
{
	return arena_printf(graph->arena, "%s %s", t->name, shape_text(graph->arena, t));
}

Parameter *parameter_of(const Tensor *t)
{
	while (t->producer->phase == PHASE_PROLOGUE && (t->producer->op == OP_CAST || t->producer->op == OP_ALL_GATHER || t->producer->op == OP_UNPACK))
		t = t->producer->in[0];
	return t->producer->op == OP_PARAMETER ? t->producer->attributes.parameter : NULL;
}

// A parameter is kept in the master type; what computes with it takes its copy in the compute type.
static Tensor *working_copy(Graph *graph, const Node *reader, Parameter *parameter)
{
	if (!parameter->working) {
		Attributes to = {.typed = true, .type = graph->real};
		const char *name = arena_printf(graph->arena, "%s.%s", parameter->name, type_name(graph->real));
		parameter->working = add_node(graph, OP_CAST, name, reader->location, PHASE_PROLOGUE, &parameter->tensor, 1, &to)->out[0];
	}
	return parameter->working;
}

// t in the compute type: one cast for all its readers of a block.
static Tensor *cast_for(Graph *graph, const Node *reader, Tensor *t)
{
	for (int i = graph->nodes.count - 1; i >= 0 && reader->phase == PHASE_FORWARD && graph->nodes.at[i] != t->producer; i--) {
		const Node *node = graph->nodes.at[i];
		if (node->op == OP_CAST && node->in[0] == t && node->block == reader->block)
			return node->out[0];
	}
	Attributes to = {.typed = true, .type = graph->real};
	const char *name = arena_printf(graph->arena, "%s.%s", t->name, type_name(graph->real));
	return add_node(graph, OP_CAST, name, reader->location, reader->phase, &t, 1, &to)->out[0];
}

void want_float(Graph *graph, Node *node, int i)
{
	Tensor *t = node->in[i];
	if (t->type != graph->real && t->producer->op == OP_PARAMETER && t->type == graph->master)
		node->in[i] = working_copy(graph, node, t->producer->attributes.parameter);
	else if (t->type != graph->master)
		want_real(graph, node, i);
}

void want_real(Graph *graph, Node *node, int i)
{
	Tensor *t = node->in[i];
	if (t->type != graph->real && t->type == graph->master && t->producer->op == OP_PARAMETER)
		node->in[i] = working_copy(graph, node, t->producer->attributes.parameter);
	else if (t->type != graph->real && t->type == graph->master)
		node->in[i] = cast_for(graph, node, t);
	if (node->in[i]->type != graph->real)
		fail_at(node->location, "%s: operand %d is %s, but %s is needed\nlabels (i32) can only be compared: "
		        "mp.cross_entropy, mp.accuracy", op_name(node->op), i + 1, tensor_text(graph, node->in[i]), type_name(graph->real));
}

void want_reals(Graph *graph, Node *node)
{
	for (int i = 0; i < node->ins; i++)
		want_real(graph, node, i);
}

static void want_floats(Graph *graph, Node *node)
{
	for (int i = 0; i < node->ins; i++)
		want_float(graph, node, i);
}

void want_master(Graph *graph, const Node *node, int i)
{
	if (node->in[i]->type != graph->master)
		fail_at(node->location, "%s: operand %d is %s, but %s is needed", op_name(node->op), i + 1, tensor_text(graph, node->in[i]),
		        type_name(graph->master));
}

static bool same_shape(const Tensor *a, const Tensor *b)
{
	return a->dims == b->dims && !memcmp(a->shape, b->shape, a->dims * sizeof *a->shape);
}

// b's dims are the last dims of a.
static bool is_suffix(const Tensor *a, const Tensor *b)
{
	return b->dims <= a->dims && !memcmp(a->shape + a->dims - b->dims, b->shape, b->dims * sizeof *b->shape);
}

void shape_given(Graph *graph, Node *node)
{
	(void)graph, (void)node; // the maker adds the outputs
}

void shape_cast(Graph *graph, Node *node)
{
	add_output(graph, node, node->attributes.type, node->in[0]->dims, node->in[0]->shape);
}

void shape_scalar(Graph *graph, Node *node)
{
	add_output(graph, node, graph->master, 0, NULL);
}

void shape_same(Graph *graph, Node *node)
{
	if (op_table[node->op].lowering == LOWER_ELEMENTWISE)
		want_floats(graph, node);
	for (int i = 1; i < node->ins; i++)
		assert(same_shape(node->in[0], node->in[i]));
	add_output(graph, node, node->in[0]->type, node->in[0]->dims, node->in[0]->shape);
}

int matmul_rows(const Node *node)
{
	const Tensor *a = node->in[0], *b = node->in[1];
	switch (node->attributes.transpose) {
	case MATMUL_NN: return a->dims - (b->dims - 1);
	case MATMUL_NT: return a->dims - 1;
	default: return b->dims - 1;
	}
}

// A user's second operand of NN is a matrix: one with more dims is likelier meant as a batch of matrices.
static void check_product(Graph *graph, const Node *node)
{
	const Tensor *a = node->in[0], *b = node->in[1];
	bool nn = node->attributes.transpose == MATMUL_NN;
	if (a->dims < 2 || b->dims < 2 || (nn && b->dims > 2 && node->phase == PHASE_FORWARD))
		fail_at(node->location, "matmul: %s times %s: the first operand needs two or more dims, the second %s",
		        tensor_text(graph, a), tensor_text(graph, b), nn ? "two" : "too");
	if (matmul_rows(node) - 1 + b->dims > MAX_DIMS)
		fail_at(node->location, "matmul: %s times %s transposed has %d dims, more than %d", tensor_text(graph, a),
		        tensor_text(graph, b), matmul_rows(node) - 1 + b->dims, MAX_DIMS);
	int last = a->dims - 1, summed = nn ? 0 : b->dims - 1;
	if (a->shape[last] != b->shape[summed] && node->phase == PHASE_FORWARD)
		fail_at(node->location, "matmul: %s times %s%s: the last dim of the first is %ld, the %s dim of the second is %ld",
		        tensor_text(graph, a), tensor_text(graph, b), nn ? "" : " transposed", a->shape[last], nn ? "first" : "last",
		        b->shape[summed]);
}

void shape_matmul(Graph *graph, Node *node)
{
	want_reals(graph, node);
	const Tensor *a = node->in[0], *b = node->in[1];
	Transpose transpose = node->attributes.transpose;
	check_product(graph, node);
	int rows = matmul_rows(node), dims = 0;
	long shape[MAX_DIMS];
	assert(rows >= 1 && (transpose != MATMUL_TN || !memcmp(a->shape, b->shape, rows * sizeof *a->shape)));
	for (int i = transpose == MATMUL_TN ? rows : 0; i < (transpose == MATMUL_TN ? a->dims : rows); i++)
		shape[dims++] = a->shape[i];
	for (int i = transpose == MATMUL_NT ? 0 : b->dims - 1; i < (transpose == MATMUL_NT ? b->dims - 1 : b->dims); i++)
		shape[dims++] = b->shape[i];
	add_output(graph, node, node->attributes.typed ? node->attributes.type : a->type, dims, shape);
}

void shape_reshape(Graph *graph, Node *node)
{
	const Attributes *to = &node->attributes;
	Tensor target = {.type = node->in[0]->type, .dims = to->dims};
	memcpy(target.shape, to->shape, sizeof target.shape);
	if (tensor_elements(&target) != tensor_elements(node->in[0]))
		fail_at(node->location, "reshape: %s has %ld elements, %s has %ld", tensor_text(graph, node->in[0]),
		        tensor_elements(node->in[0]), shape_text(graph->arena, &target), tensor_elements(&target));
	add_output(graph, node, target.type, target.dims, target.shape);
}

void shape_sum(Graph *graph, Node *node)
{
	want_floats(graph, node);
	const Tensor *x = node->in[0];
	int from = node->attributes.from, to = node->attributes.to, dims = 0;
	if (from < 0 || to > x->dims || from > to)
		fail_at(node->location, "sum: %s has no dims %d to %d", tensor_text(graph, x), from + 1, to);
	long shape[MAX_DIMS];
	for (int i = 0; i < x->dims; i++)
		if (i < from || i >= to)
			shape[dims++] = x->shape[i];
	add_output(graph, node, graph->master, dims, shape);
}

// Of all dims before `to`; and working memory, the sums of each chunk of the rows where there are several.
void shape_column_sums(Graph *graph, Node *node)
{
	const Tensor *x = node->in[0];
	const Attributes *a = &node->attributes;
	long partials[MAX_DIMS + 1] = {a->chunks};
	assert(!a->from && a->to > 0 && a->to < x->dims && a->chunks > 0);
	memcpy(partials + 1, x->shape + a->to, (size_t)(x->dims - a->to) * sizeof *partials);
	add_output(graph, node, graph->master, x->dims - a->to, partials + 1);
	if (a->chunks > 1)
		add_named_output(graph, node, "partials", graph->master, x->dims - a->to + 1, partials);
}

void shape_expand(Graph *graph, Node *node)
{
	if (node->phase == PHASE_FORWARD)
		want_float(graph, node, 0);
	const Tensor *x = node->in[0];
	const Attributes *a = &node->attributes;
	int inserted = a->to - a->from;
	assert(a->from >= 0 && a->from <= x->dims && x->dims + inserted <= MAX_DIMS);
	long shape[MAX_DIMS];
	for (int i = 0; i < x->dims + inserted; i++)
		shape[i] = i < a->from ? x->shape[i] : i < a->to ? a->shape[i - a->from] : x->shape[i - inserted];
	add_output(graph, node, a->typed ? a->type : x->type, x->dims + inserted, shape);
}

void shape_softmax(Graph *graph, Node *node)
{
	want_reals(graph, node);
	if (node->in[0]->dims < 1)
		fail_at(node->location, "softmax: %s has no dim to sum over", tensor_text(graph, node->in[0]));
	add_output(graph, node, node->in[0]->type, node->in[0]->dims, node->in[0]->shape);
}

// logits [rows…, classes] and label i32 [rows…].
static void check_rows(Graph *graph, Node *node)
{
	want_real(graph, node, 0);
	const Tensor *logits = node->in[0], *label = node->in[1];
	if (label->type != TYPE_I32)
		fail_at(node->location, "%s: the label %s must be i32 (class numbers), not %s\ndeclare it as { \"i32\" } in the data",
		        op_name(node->op), tensor_text(graph, label), type_name(label->type));
	if (logits->dims != label->dims + 1 || memcmp(logits->shape, label->shape, label->dims * sizeof *label->shape))
		fail_at(node->location, "%s: the logits %s need a label for each row, but the label is %s",
		        op_name(node->op), tensor_text(graph, logits), tensor_text(graph, label));
}

void shape_cross_entropy(Graph *graph, Node *node)
{
	check_rows(graph, node);
	const Tensor *label = node->in[1];
	add_output(graph, node, graph->master, label->dims, label->shape); // the loss of each row
	add_output(graph, node, graph->master, label->dims, label->shape); // log of its sum of exponentials
}

void shape_cross_entropy_grad(Graph *graph, Node *node)
{
	add_output(graph, node, graph->real, node->in[0]->dims, node->in[0]->shape);
}

void shape_correct(Graph *graph, Node *node)
{
	check_rows(graph, node);
	add_output(graph, node, graph->master, node->in[1]->dims, node->in[1]->shape);
}

// [parts, what is known of a part, rows…]
void shape_classes(Graph *graph, Node *node)
{
	const Tensor *label = node->in[1];
	long shape[MAX_DIMS] = {node->attributes.parts, node->op == OP_CLASS_SUMS ? 3 : 2};
	memcpy(shape + 2, label->shape, (size_t)label->dims * sizeof *shape);
	add_output(graph, node, graph->master, label->dims + 2, shape);
}

void shape_count(Graph *graph, Node *node)
{
	add_output(graph, node, graph->master, 0, NULL);
}

// Both have one shape, or the second's is the end of the first's (a bias, a scalar). Where the first is the
// smaller one, a commutative op swaps them and the others expand it.
void shape_broadcast(Graph *graph, Node *node)
{
	want_floats(graph, node);
	Tensor *a = node->in[0], *b = node->in[1];
	if (!is_suffix(a, b) && is_suffix(b, a)) {
		if (node->op == OP_SUB || node->op == OP_DIV) {
			Attributes more = {.from = 0, .to = b->dims - a->dims};
			memcpy(more.shape, b->shape, (size_t)more.to * sizeof *b->shape);
			const char *name = arena_printf(graph->arena, "%s.expand", node->name);
			a = add_node(graph, OP_EXPAND, name, node->location, node->phase, &a, 1, &more)->out[0];
			node->in[0] = a;
		} else {
			node->in[0] = b;
			node->in[1] = a;
			a = node->in[0], b = node->in[1];
		}
	}
	if (!is_suffix(a, b))
		fail_at(node->location, "%s: %s and %s do not fit\nthe shapes must be equal, or one must be the end of the other",
		        op_name(node->op), tensor_text(graph, a), tensor_text(graph, b));
	Type type = a->type == graph->real || b->type == graph->real ? graph->real : graph->master;
	add_output(graph, node, type, a->dims, a->shape);
}

void shape_update(Graph *graph, Node *node)
{
	(void)graph;
	assert(same_shape(node->in[0], node->in[1]));
}

void shape_sink(Graph *graph, Node *node)
{
	(void)graph;
	assert(node->ins == 1);
}
