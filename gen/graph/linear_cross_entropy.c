// linear_cross_entropy.c: the head of a language model and its loss, some rows at a time.
//
// The logits of all tokens of a micro-batch are usually the largest tensor of a model. Nobody needs them at once: while training,
// the gradient of a row's loss is a number that is known before its logits are (losses.c), so for each chunk of rows
//   logits = x weight^T,   their losses and dlogits in the place of logits,   dx = dlogits weight,   dweight += dlogits^T x
// and logits are [rows / chunks, classes]. dx is kept until the backward pass, in the place of dlogits; the weight's gradient is
// summed over chunks as over micro-batches, in full precision. It is one node, and one loop where it is emitted
// (gen/emit/chunk_calls.c): passes see a step that reads x, weight and labels and writes the losses and both gradients. Its
// operands lie as those of the matrix product and the loss that it stands for. Where tp shares out the classes, devices exchange
// three numbers a row inside of the loop (gen/plan/classes.c).
//
// Only training does so; inference, which may want the logits, has the plain product and its loss.
#include <string.h>

#include "rules.h"

// operands: x [rows…,columns], weight [classes,columns], labels [rows…], then the slope of the rows' losses
enum { HEAD_X, HEAD_WEIGHT, HEAD_LABEL };

static void check_operands(Graph *graph, const Node *node)
{
	const Tensor *x = node->in[HEAD_X], *weight = node->in[HEAD_WEIGHT], *label = node->in[HEAD_LABEL];
	if (label->type != TYPE_I32)
		fail_at(node->location, "linear_cross_entropy: the label %s must be i32 (class numbers), not %s\ndeclare it as { \"i32\" } in the data",
		        tensor_text(graph, label), type_name(label->type));
	if (!parameter_of(weight) || weight->dims != 2)
		fail_at(node->location, "linear_cross_entropy: the weight must be a parameter [classes, columns], not %s\n"
		        "of any other one use mp.cross_entropy(mp.linear(x, weight), label)", tensor_text(graph, weight));
	if (x->dims < 2 || x->shape[x->dims - 1] != weight->shape[1])
		fail_at(node->location, "linear_cross_entropy: %s times %s transposed: the last dims must be equal", tensor_text(graph, x),
		        tensor_text(graph, weight));
	if (x->dims != label->dims + 1 || memcmp(x->shape, label->shape, (size_t)label->dims * sizeof *label->shape))
		fail_at(node->location, "linear_cross_entropy: %s needs a label for each row, but the label is %s", tensor_text(graph, x),
		        tensor_text(graph, label));
}

// Each device has whole chunks in each micro-batch. A batch that does not divide is refused when it is placed.
static void check_chunks(const Graph *graph, const Node *node)
{
	long parts = (long)graph->microbatches * graph->replicas, rows = tensor_elements(node->in[HEAD_LABEL]) / parts;
	if (graph->batch % parts || rows % node->attributes.chunks == 0)
		return;
	Text works = {.arena = graph->arena};
	for (long k = 1; k <= rows && works.length < 60; k++)
		if (rows % k == 0)
			text_add(&works, "%s%ld", works.length ? ", " : "", k);
	fail_at(node->location, "linear_cross_entropy: the %ld rows that a device has in a micro-batch do not divide into %ld chunks\nchunks that work: %s",
	        rows, node->attributes.chunks, works.at);
}

void shape_linear_cross_entropy(Graph *graph, Node *node)
{
	want_real(graph, node, HEAD_X);
	want_real(graph, node, HEAD_WEIGHT);
	check_operands(graph, node);
	check_chunks(graph, node);
	const Tensor *x = node->in[HEAD_X], *weight = node->in[HEAD_WEIGHT], *label = node->in[HEAD_LABEL];
	long logits[] = {tensor_elements(label) / node->attributes.chunks, weight->shape[0]};
	add_output(graph, node, graph->master, label->dims, label->shape); // the loss of each row
	add_named_output(graph, node, "x_grad", graph->real, x->dims, x->shape);
	add_named_output(graph, node, "weight_grad", graph->master, 2, weight->shape);
	add_named_output(graph, node, "logits", graph->real, 2, logits); // of a chunk; then what its losses make of them
}

// The node itself makes the gradients: join_losses() gives it the slope of the losses as one number. Other blocks read the gradient
// of x as one of the backward pass, where it is also summed over devices.
void gradient_linear_cross_entropy(Gradient *g)
{
	Node *node = g->node;
	const Tensor *x = node->in[HEAD_X];
	Attributes same = {.dims = x->dims};
	memcpy(same.shape, x->shape, sizeof same.shape);
	add_operand(node, g->dout[0]);
	if (g->wanted[HEAD_X])
		g->din[HEAD_X] = make_backward(g, OP_RESHAPE, g->names[HEAD_X], &node->out[CHUNKED_X_GRAD], 1, &same);
	g->din[HEAD_WEIGHT] = node->out[CHUNKED_WEIGHT_GRAD];
}

// Replicas; samples; classes over tp.
void placement_linear_cross_entropy(const Node *node, Rules *rules)
{
	add_rule(rules);
	for (int d = 0; d < node->in[HEAD_LABEL]->dims; d++) {
		Rule *rule = add_rule(rules);
		rule->on = ON_SAMPLES;
		rule->in[HEAD_X] = rule->in[HEAD_LABEL] = S(d);
		rule->out[CHUNKED_LOSSES] = rule->out[CHUNKED_X_GRAD] = S(d);
		rule->out[CHUNKED_WEIGHT_GRAD] = P;
		rule->out[CHUNKED_LOGITS] = rule->out[CHUNKED_STATISTICS] = S(0);
		rule->out[CHUNKED_CLASS_SUMS] = S(2);
	}
	Rule *classes = add_rule(rules);
	classes->on = ON_TP;
	classes->in[HEAD_WEIGHT] = classes->out[CHUNKED_WEIGHT_GRAD] = S(0);
	classes->out[CHUNKED_X_GRAD] = P;
	classes->out[CHUNKED_LOGITS] = S(1);
}

// Three products, and what cross-entropy costs.
double cost_linear_cross_entropy(const Node *node)
{
	double logits = (double)tensor_elements(node->in[HEAD_LABEL]) * (double)node->in[HEAD_WEIGHT]->shape[0];
	return logits * (3 * 2.0 * (double)node->in[HEAD_WEIGHT]->shape[1] + 10);
}
