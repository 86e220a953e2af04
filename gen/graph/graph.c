// graph.c: building the graph.
//
// Every node is made by add_node, which checks its operands and makes its outputs by the shape rule of the op
// table, so a graph that exists is well formed. NameTable are unique because emitted identifiers come from them.
#include "graph.h"

#include <stdio.h>
#include <string.h>

#include "rules.h"

#define gradient_none NULL
#define cost_none NULL
const OpInfo op_table[OPS] = {
#define OP(name, text, shape, gradient, placement, cost, lowering, expression) \
	[OP_##name] = {text, shape_##shape, gradient_##gradient, placement_##placement, cost_##cost, LOWER_##lowering, expression, false},
#define IMAGE_OP(name, text, shape, gradient, placement, cost, lowering, expression) \
	[OP_##name] = {text, shape_##shape, gradient_##gradient, placement_##placement, cost_##cost, LOWER_##lowering, expression, true},
#include "ops.def"
#undef OP
};

bool writes_operand(const Node *node, int i)
{
	switch (node->op) {
	case OP_SGD: case OP_ADAMW: return i == 0 || node->in[i]->producer->op == OP_STATE;
	case OP_RUNNING_STATISTICS: return i < 3;
	case OP_EMBEDDING_GRAD: return i == 2;
	default: return node->op == OP_CLEAR_PADDING;
	}
}

bool is_update(const Node *node)
{
	return node->op == OP_SGD || node->op == OP_ADAMW;
}

bool adds_onto(const Node *node)
{
	return node->op == OP_EMBEDDING_GRAD && node->ins == 3;
}

bool may_overwrite(const Node *node)
{
	return node->op == OP_CROSS_ENTROPY_GRAD || node->op == OP_CROSS_ENTROPY_AND_GRAD || node->op == OP_ROPE;
}

bool joins_in_front(const Node *node)
{
	return node->op == OP_LAYER_NORM || node->op == OP_RMS_NORM;
}

bool joins_behind(const Node *node)
{
	return node->op == OP_LAYER_NORM_GRAD || node->op == OP_RMS_NORM_GRAD;
}

bool sums_result(const Node *node)
{
	return joins_behind(node) && node->outs > (node->op == OP_LAYER_NORM_GRAD ? 3 : 2);
}

static bool same_windows(const Window *a, const Window *b)
{
	return !memcmp(a->kernel, b->kernel, sizeof a->kernel) && !memcmp(a->stride, b->stride, sizeof a->stride)
	    && !memcmp(a->padding, b->padding, sizeof a->padding) && !memcmp(a->dilation, b->dilation, sizeof a->dilation)
	    && a->groups == b->groups && a->counts_padding == b->counts_padding;
}

static bool same_rotation(const Rotary *a, const Rotary *b)
{
	return a->theta == b->theta && a->factor == b->factor && a->low == b->low && a->high == b->high && a->original == b->original
	    && a->back == b->back;
}

// What names, owns or converts something says nothing of the computation, nor does what tells layers apart; all else is compared.
bool same_attributes(const Attributes *a, const Attributes *b)
{
	return a->scale == b->scale && a->transpose == b->transpose && a->from == b->from && a->to == b->to && a->axis == b->axis
	    && a->dim == b->dim && a->dims == b->dims && !memcmp(a->shape, b->shape, sizeof a->shape)
	    && a->channels_last == b->channels_last && a->momentum == b->momentum && a->decay == b->decay
	    && !memcmp(a->betas, b->betas, sizeof a->betas)
	    && same_windows(&a->window, &b->window) && a->groups == b->groups && a->rows == b->rows && a->parts == b->parts && a->part == b->part
	    && a->chunks == b->chunks && a->epsilon == b->epsilon && a->synchronised == b->synchronised
	    && same_rotation(&a->rotary, &b->rotary) && a->classes == b->classes && a->in_place == b->in_place
	    && a->typed == b->typed && (!a->typed || a->type == b->type);
}

const char *op_name(Op op)
{
	return op_table[op].name;
}

const char *type_name(Type type)
{
	static const char *const names[] = {[TYPE_F32] = "f32", [TYPE_F64] = "f64", [TYPE_I32] = "i32", [TYPE_BF16] = "bf16"};
	return names[type];
}

size_t type_size(Type type)
{
	return type == TYPE_F64 ? 8 : type == TYPE_BF16 ? 2 : 4;
}

long tensor_elements(const Tensor *t)
{
	long n = 1;
	for (int i = 0; i < t->dims; i++)
		n *= t->shape[i];
	return n;
}

const char *shape_text(Arena *arena, const Tensor *t)
{
	Text text = {.arena = arena};
	text_add(&text, "%s[", type_name(t->type));
	for (int i = 0; i < t->dims; i++)
		text_add(&text, "%s%ld", i ? "," : "", t->shape[i]);
	text_add(&text, "]");
	return text.at;
}

Graph *graph_new(Arena *arena, Type real, long batch)
{
	Graph *graph = arena_alloc(arena, sizeof *graph);
	*graph = (Graph){.arena = arena, .real = real, .master = real == TYPE_BF16 ? TYPE_F32 : real, .batch = batch, .microbatches = 1, .replicas = 1, .training = true};
	return graph;
}

// ---- names

// The name itself, or the first of name_2, name_3, … that nobody has.
static const char *unique_name(Graph *graph, const char *name)
{
	NameUse *use = count_name(graph->arena, &graph->names, name);
	if (use->uses == 1)
		return use->name;
	for (int i = use->uses;; i++) {
		NameUse *candidate = count_name(graph->arena, &graph->names, arena_printf(graph->arena, "%s_%d", name, i));
		if (candidate->uses == 1)
			return candidate->name;
	}
}

static Tensor *new_output(Graph *graph, Node *node, const char *name, Type type, int dims, const long *shape)
{
	assert(node->outs < MAX_OUTPUTS && dims <= MAX_DIMS);
	Tensor *t = arena_alloc(graph->arena, sizeof *t);
	t->id = graph->tensors.count;
	t->name = name;
	t->type = type;
	t->dims = dims;
	for (int i = 0; i < dims; i++)
		t->shape[i] = shape[i];
	t->producer = node;
	list_add(graph->arena, &graph->tensors, t);
	node->out[node->outs++] = t;
	return t;
}

Tensor *add_named_output(Graph *graph, Node *node, const char *what, Type type, int dims, const long *shape)
{
	return new_output(graph, node, unique_name(graph, arena_printf(graph->arena, "%s.%s", node->name, what)), type, dims, shape);
}

// The first output has the node's name; further ones add what they are.
Tensor *add_output(Graph *graph, Node *node, Type type, int dims, const long *shape)
{
	static const char *const further[MAX_OUTPUTS] = {"", ".statistics", ".rest"};
	const char *name = node->outs == 0 ? node->name : arena_printf(graph->arena, "%s%s", node->name, further[node->outs]);
	return new_output(graph, node, name, type, dims, shape);
}

static int current_block(const Graph *graph)
{
	return graph->blocks.count ? graph->blocks.count - 1 : 0;
}

Node *add_node(Graph *graph, Op op, const char *name, const Location *location, Phase phase,
               Tensor *const *in, int ins, const Attributes *attributes)
{
	Node *node = arena_alloc(graph->arena, sizeof *node);
	node->op = op;
	node->name = unique_name(graph, name);
	node->location = location;
	node->phase = phase;
	node->block = current_block(graph);
	node->in = arena_alloc(graph->arena, (size_t)(ins > MAX_INPUTS ? ins : MAX_INPUTS) * sizeof(Tensor *));
	for (int i = 0; i < ins; i++)
		node->in[i] = in[i];
	node->ins = ins;
	if (attributes)
		node->attributes = *attributes;
	op_table[op].shape(graph, node);
	node->id = graph->nodes.count;
	list_add(graph->arena, &graph->nodes, node);
	return node;
}

Node *copy_node(Graph *graph, const Node *node, const char *what)
{
	Node *copy = arena_alloc(graph->arena, sizeof *copy);
	*copy = *node;
	copy->name = unique_name(graph, arena_printf(graph->arena, "%s.%s", node->name, what));
	copy->in = arena_alloc(graph->arena, (size_t)(node->ins > MAX_INPUTS ? node->ins : MAX_INPUTS) * sizeof(Tensor *));
	memcpy(copy->in, node->in, (size_t)node->ins * sizeof(Tensor *));
	copy->outs = 0;
	for (int k = 0; k < node->outs; k++) {
		const Tensor *t = node->out[k];
		size_t known = strlen(node->name);
		const char *name = k == 0 ? copy->name : unique_name(graph, arena_printf(graph->arena, "%s%s", copy->name, t->name + (strncmp(t->name, node->name, known) ? 0 : known)));
		Tensor *twin = new_output(graph, copy, name, t->type, t->dims, t->shape);
		memcpy(twin->place, t->place, sizeof twin->place);
		memcpy(twin->pinned, t->pinned, sizeof twin->pinned);
		twin->channels_last = t->channels_last;
	}
	return copy;
}

void add_operand(Node *node, Tensor *t)
{
	assert(node->ins < MAX_INPUTS);
	node->in[node->ins++] = t;
}

Parameter *add_parameter(Graph *graph, const char *name, const Location *location, int dims, const long *shape, Init init)
{
	Node *node = add_node(graph, OP_PARAMETER, name, location, PHASE_PROLOGUE, NULL, 0, NULL);
	Parameter *parameter = arena_alloc(graph->arena, sizeof *parameter);
	*parameter = (Parameter){.name = node->name, .init = init, .trained = true, .decay = true, .block = -1};
	parameter->tensor = add_output(graph, node, graph->master, dims, shape);
	node->attributes.parameter = parameter;
	list_add(graph->arena, &graph->parameters, parameter);
	return parameter;
}

Parameter *add_buffer(Graph *graph, const char *name, const Location *location, Type type, int dims, const long *shape, Init init)
{
	Parameter *buffer = add_parameter(graph, name, location, dims, shape, init);
	buffer->trained = buffer->decay = false;
	buffer->tensor->type = type;
	return buffer;
}

// An input's samples lie outermost: it is sharded over micro-batches and replicas.
Input *add_input(Graph *graph, const char *name, const Location *location, Type type, int dims, const long *shape)
{
	Node *node = add_node(graph, OP_INPUT, name, location, PHASE_PROLOGUE, NULL, 0, NULL);
	Input *input = arena_alloc(graph->arena, sizeof *input);
	*input = (Input){.name = node->name};
	input->tensor = add_output(graph, node, type, dims, shape);
	node->attributes.input = input;
	input->tensor->place[AXIS_MICRO] = input->tensor->place[AXIS_DP] = (Placement){SHARD, 0};
	for (int axis = 0; axis < PLACED_AXES; axis++)
		input->tensor->pinned[axis] = true;
	list_add(graph->arena, &graph->inputs, input);
	return input;
}

// Number of labels >= 0 of the whole batch: one count for each label tensor and block.
static Tensor *count_valid(Graph *graph, const Location *location, Tensor *label)
{
	label = origin_of(label);
	for (int i = 0; i < graph->nodes.count; i++) {
		Node *node = graph->nodes.at[i];
		if (node->op == OP_COUNT_VALID && node->in[0] == label && node->block == current_block(graph))
			return node->out[0];
	}
	const char *name = arena_printf(graph->arena, "%s.count", label->name);
	return add_node(graph, OP_COUNT_VALID, name, location, PHASE_PROLOGUE, (Tensor *[]){label}, 1, NULL)->out[0];
}

// The mean over valid labels of a value for each row.
static Tensor *mean_of_valid(Graph *graph, const char *name, const Location *location, Tensor *rows, Tensor *count)
{
	Attributes all = {.scale = 1, .from = 0, .to = rows->dims};
	const char *sum_name = arena_printf(graph->arena, "%s.sum", name);
	Tensor *sum = add_node(graph, OP_SUM, sum_name, location, PHASE_FORWARD, &rows, 1, &all)->out[0];
	return add_node(graph, OP_DIV, name, location, PHASE_FORWARD, (Tensor *[]){sum, count}, 2, NULL)->out[0];
}

static void check_label(Graph *graph, const Location *location, const char *what, const Tensor *logits, Tensor *label, long wanted)
{
	label = origin_of(label);
	if (wanted < 0 || (logits->dims && wanted > logits->shape[logits->dims - 1]))
		fail_at(location, "%s: %ld classes of the logits %s", what, wanted, tensor_text(graph, logits));
	if (label->producer->op == OP_INPUT && label->type == TYPE_I32) {
		Input *input = label->producer->attributes.input;
		long classes = wanted ? wanted : logits->dims ? logits->shape[logits->dims - 1] : 0;
		if (classes < input->vocabulary)
			fail_at(location, "%s: '%s' are ids of a vocabulary of %ld, but the logits have %ld classes", what, label->name,
			        input->vocabulary, classes);
		if (input->vocabulary)
			return;
		if (input->limit && input->limit != classes)
			fail_at(location, "%s: the label '%s' is compared with %ld classes here and with %ld before\n"
			        "use one label tensor for each set of classes", what, label->name, classes, input->limit);
		input->limit = classes;
	}
}

Tensor *add_cross_entropy(Graph *graph, const char *name, const Location *location, Tensor *logits, Tensor *label, long classes, Tensor **count)
{
	Attributes of = {.classes = classes};
	const char *rows_name = arena_printf(graph->arena, "%s.rows", name);
	Tensor *rows = add_node(graph, OP_CROSS_ENTROPY, rows_name, location, PHASE_FORWARD, (Tensor *[]){logits, label}, 2, &of)->out[0];
	check_label(graph, location, "cross_entropy", logits, label, classes);
	*count = count_valid(graph, location, label);
	return mean_of_valid(graph, name, location, rows, *count);
}

// Whether an operand is t, or t in the compute type.
static bool stands_for(const Tensor *operand, const Tensor *t)
{
	return operand == t || (operand->producer->op == OP_CAST && operand->producer->in[0] == t);
}

// The product of x and weight that the graph has already, or a new one.
static Tensor *logits_of(Graph *graph, const char *name, const Location *location, Tensor *x, Tensor *weight)
{
	Attributes nt = {.transpose = MATMUL_NT};
	for (int i = graph->nodes.count - 1; i >= 0; i--) {
		const Node *node = graph->nodes.at[i];
		if (node->op == OP_MATMUL && node->block == current_block(graph) && node->attributes.transpose == MATMUL_NT && stands_for(node->in[0], x)
		    && stands_for(node->in[1], weight))
			return node->out[0];
	}
	return add_node(graph, OP_MATMUL, arena_printf(graph->arena, "%s.logits", name), location, PHASE_FORWARD, (Tensor *[]){x, weight}, 2, &nt)->out[0];
}

Tensor *add_linear_cross_entropy(Graph *graph, const char *name, const Location *location, Tensor *const in[3], long classes, long chunks, Tensor **count)
{
	if (chunks == 1 || !graph->training)
		return add_cross_entropy(graph, name, location, logits_of(graph, name, location, in[0], in[1]), in[2], classes, count);
	Attributes of = {.classes = classes, .chunks = chunks};
	const char *rows_name = arena_printf(graph->arena, "%s.rows", name);
	Node *node = add_node(graph, OP_LINEAR_CROSS_ENTROPY, rows_name, location, PHASE_FORWARD, in, 3, &of);
	check_label(graph, location, "linear_cross_entropy", node->out[CHUNKED_LOGITS], in[2], classes);
	*count = count_valid(graph, location, in[2]);
	return mean_of_valid(graph, name, location, node->out[CHUNKED_LOSSES], *count);
}

Tensor *add_accuracy(Graph *graph, const char *name, const Location *location, Tensor *logits, Tensor *label, long classes, Tensor **count)
{
	Attributes of = {.classes = classes};
	const char *rows_name = arena_printf(graph->arena, "%s.rows", name);
	Tensor *rows = add_node(graph, OP_CORRECT, rows_name, location, PHASE_FORWARD, (Tensor *[]){logits, label}, 2, &of)->out[0];
	check_label(graph, location, "accuracy", logits, label, classes);
	*count = count_valid(graph, location, label);
	return mean_of_valid(graph, name, location, rows, *count);
}
