// norms.c: the rules of layer norm and RMS norm over the last dim.
//
//   layer norm  y = (x - mean) rstd w + b,  rstd = 1 / sqrt(variance + epsilon)      Ba et al., arXiv:1607.06450
//   RMS norm    y = x rstd w,               rstd = 1 / sqrt(mean of x^2 + epsilon)   Zhang and Sennrich, arXiv:1910.07467
//
// Statistics, w, b and their gradients are in the master type. The gradients of w and b are sums over all rows: one pass
// over the activations makes the gradient of x and the sums of `chunks` of the rows side by side, and then the chunks are
// added. So they are deterministic, and there is work for many blocks.
#include "rules.h"

// A block for each chunk, and as many as an H100 runs at once: 512 threads on each of its multiprocessors, which have 16 columns
// each in bf16 and 12 in f32 (MP_HELD_SUMS).
enum { MULTIPROCESSORS = 132, THREADS = 512, WARP = 32, CHUNK_ROWS = 8 };

// ---- shapes

static void check_norm(Graph *graph, Node *node)
{
	const Tensor *x = node->in[0];
	want_real(graph, node, 0);
	if (x->dims < 1)
		fail_at(node->location, "%s: %s has no dim to normalise", op_name(node->op), tensor_text(graph, x));
	for (int i = 1; i < node->ins; i++) {
		want_master(graph, node, i);
		if (node->in[i]->dims != 1 || node->in[i]->shape[0] != x->shape[x->dims - 1])
			fail_at(node->location, "%s: the %s %s must have one element for each of the %ld columns of %s", op_name(node->op),
			        i == 1 ? "weight" : "bias", tensor_text(graph, node->in[i]), x->shape[x->dims - 1], tensor_text(graph, x));
	}
}

// The result, and statistics with an element for each row.
static void add_norm(Graph *graph, Node *node, bool has_mean)
{
	const Tensor *x = node->in[0];
	check_norm(graph, node);
	add_output(graph, node, graph->real, x->dims, x->shape);
	if (has_mean)
		add_named_output(graph, node, "mean", graph->master, x->dims - 1, x->shape);
	add_named_output(graph, node, "rstd", graph->master, x->dims - 1, x->shape);
}

void shape_layer_norm(Graph *graph, Node *node)
{
	add_norm(graph, node, true);
}

void shape_rms_norm(Graph *graph, Node *node)
{
	add_norm(graph, node, false);
}

void shape_norm_grad(Graph *graph, Node *node)
{
	const Tensor *x = node->in[1];
	long chunks[] = {node->attributes.chunks, x->shape[x->dims - 1]};
	add_output(graph, node, graph->real, x->dims, x->shape);
	add_named_output(graph, node, "weight_sums", graph->master, 2, chunks);
	if (node->op == OP_LAYER_NORM_GRAD)
		add_named_output(graph, node, "bias_sums", graph->master, 2, chunks);
}

// ---- gradients

// The number does not depend on how tp shares out the rows of a replica's micro-batch.
static long chunks_of(const Graph *graph, const Tensor *x)
{
	long columns = x->shape[x->dims - 1], of_warp = WARP * (graph->real == TYPE_BF16 ? 16 : 12);
	long rows = tensor_elements(x) / columns / ((long)graph->microbatches * graph->replicas);
	long threads = (columns + of_warp - 1) / of_warp * WARP;
	long chunks = (rows + CHUNK_ROWS - 1) / CHUNK_ROWS, most = MULTIPROCESSORS * (threads < THREADS ? THREADS / threads : 1);
	return chunks < 1 ? 1 : chunks > most ? most : chunks;
}

static void add_chunks(Gradient *g, int input, Tensor *chunks)
{
	if (g->wanted[input])
		g->din[input] = make_partial_sums(g, g->names[input], chunks);
}

void gradient_layer_norm(Gradient *g)
{
	enum { X, WEIGHT, BIAS };
	Tensor *x = g->node->in[X], **made = g->node->out;
	Attributes of = {.chunks = chunks_of(g->graph, x)};
	Tensor *in[] = {g->dout[0], x, made[1], made[2], g->node->in[WEIGHT]};
	Tensor **out = make_backward(g, OP_LAYER_NORM_GRAD, g->names[X], in, 5, &of)->producer->out;
	g->din[X] = out[0];
	add_chunks(g, WEIGHT, out[1]);
	if (g->node->ins > BIAS)
		add_chunks(g, BIAS, out[2]);
}

void gradient_rms_norm(Gradient *g)
{
	enum { X, WEIGHT };
	Tensor *x = g->node->in[X];
	Attributes of = {.chunks = chunks_of(g->graph, x)};
	Tensor *in[] = {g->dout[0], x, g->node->out[1], g->node->in[WEIGHT]};
	Tensor **out = make_backward(g, OP_RMS_NORM_GRAD, g->names[X], in, 4, &of)->producer->out;
	g->din[X] = out[0];
	add_chunks(g, WEIGHT, out[1]);
}

// ---- placements: rows may lie anywhere, w and b are whole.

void placement_norm(const Node *node, Rules *rules)
{
	add_rule(rules);
	for (int d = 0; d < node->in[0]->dims - 1; d++) {
		Rule *rule = add_rule(rules);
		rule->in[0] = S(d);
		for (int i = 0; i < node->outs; i++)
			rule->out[i] = S(d);
	}
}

// dy, x, the statistics, and last w. What a device adds to the gradients of w and b is a part of their sums.
void placement_norm_grad(const Node *node, Rules *rules)
{
	add_rule(rules);
	for (int d = 0; d < node->in[0]->dims - 1; d++) {
		Rule *rule = add_rule(rules);
		for (int i = 0; i < node->ins - 1; i++)
			rule->in[i] = S(d);
		rule->out[0] = S(d);
		for (int i = 1; i < node->outs; i++)
			rule->out[i] = P;
	}
	add_linear(rules, 0);
	for (int i = 1; i < node->outs; i++)
		rules->at[rules->count - 1].out[i] = P;
}
