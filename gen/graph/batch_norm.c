// batch_norm.c: batch normalisation, made of ops for its statistics, the normalisation and the running statistics.
//
// A statistics group is what shares a mean and a variance: one replica's micro-batch, or, synchronised, a micro-batch over
// all replicas. Samples lie in micro-batches, and these in replicas, so group g of G holds the g-th part of the batch; the
// statistics are tensors [G,C] that are Shard(0) wherever the batch is. Each group's rows (pixels of all its samples) are
// cut into chunks that are reduced apart and then combined in order.
//   Ioffe and Szegedy, arXiv:1502.03167; combining chunks: Chan, Golub and LeVeque 1983.
//
// Training normalises with the group's own statistics; evaluation, inference and nothing else use the running ones, which take
// every group's update once, in the order of samples, in the epilogue.
#include "rules.h"

enum { MOST_CHUNKS = 256, CHUNK_ROWS = 64 };

// ---- building

static void check_batch_norm(Graph *graph, const Location *location, const BatchNorm *norm)
{
	const Tensor *x = norm->x;
	if (x->dims != 4 || x->type != graph->real)
		fail_at(location, "batch_norm2d: images [batch, channels, height, width] are needed, not %s", tensor_text(graph, x));
	const Tensor *of_channels[] = {norm->weight, norm->bias, norm->running_mean, norm->running_var};
	for (int i = 0; i < 4; i++)
		if (of_channels[i]->dims != 1 || of_channels[i]->shape[0] != x->shape[1])
			fail_at(location, "batch_norm2d: %s must have one element for each of the %ld channels of %s", tensor_text(graph, of_channels[i]),
			        x->shape[1], tensor_text(graph, x));
}

static void check_buffers(Graph *graph, const Location *location, const BatchNorm *norm)
{
	const Tensor *buffers[] = {norm->running_mean, norm->running_var, norm->batches_tracked};
	for (int i = 0; i < 3; i++)
		if (buffers[i]->producer->op != OP_PARAMETER || buffers[i]->producer->attributes.parameter->trained)
			fail_at(location, "batch_norm2d: %s must be a buffer: mp.buffer(…)", tensor_text(graph, buffers[i]));
	if (norm->batches_tracked->type != TYPE_I32 || norm->batches_tracked->dims)
		fail_at(location, "batch_norm2d: num_batches_tracked must be one i32: mp.buffer(name, {}, mp.zeros, { type = \"i32\" }), not %s",
		        tensor_text(graph, norm->batches_tracked));
	for (int i = 0; i < graph->running.count; i++)
		if (graph->running.at[i].running_mean == norm->running_mean)
			fail_at(location, "batch_norm2d: %s belongs to another layer already", norm->running_mean->name);
}

// Buffers live where their layer does, also those that only the epilogue reads.
static void own_buffers(const BatchNorm *norm, int block)
{
	Tensor *const buffers[] = {norm->running_mean, norm->running_var, norm->batches_tracked};
	for (int i = 0; i < 3; i++)
		if (buffers[i]->producer->attributes.parameter->block < 0)
			buffers[i]->producer->attributes.parameter->block = block;
}

static Tensor *normalize(Graph *graph, const char *name, const Location *location, const BatchNorm *norm, Tensor *mean, Tensor *rstd,
                         const Attributes *attributes)
{
	Tensor *in[] = {norm->x, mean, rstd, norm->weight, norm->bias};
	return add_node(graph, OP_NORMALIZE, name, location, PHASE_FORWARD, in, 5, attributes)->out[0];
}

static Node *statistics(Graph *graph, const char *name, const Location *location, const BatchNorm *norm, const Attributes *of)
{
	const char *chunks = arena_printf(graph->arena, "%s.chunks", name), *result = arena_printf(graph->arena, "%s.statistics", name);
	Node *partials = add_node(graph, OP_CHANNEL_PARTIALS, chunks, location, PHASE_FORWARD, (Tensor *[]){norm->x}, 1, of);
	Tensor *in[] = {partials->out[0], partials->out[1], norm->running_mean, norm->running_var};
	Node *node = add_node(graph, OP_CHANNEL_STATISTICS, result, location, PHASE_FORWARD, in, 4, of);
	if (!of->synchronised)
		return node;
	const char *merged = arena_printf(graph->arena, "%s.merged", name);
	return add_node(graph, OP_MERGE_STATISTICS, merged, location, PHASE_FORWARD, node->out, 2, of);
}

Tensor *add_batch_norm(Graph *graph, const char *name, const Location *location, const BatchNorm *norm)
{
	check_batch_norm(graph, location, norm);
	check_buffers(graph, location, norm);
	if (!graph->training) {
		Attributes epsilon = {.scale = norm->epsilon};
		const char *rstd_name = arena_printf(graph->arena, "%s.rstd", name);
		Tensor *rstd = add_node(graph, OP_RSTD, rstd_name, location, PHASE_FORWARD, (Tensor *[]){norm->running_var}, 1, &epsilon)->out[0];
		own_buffers(norm, rstd->producer->block);
		return normalize(graph, name, location, norm, norm->running_mean, rstd, NULL);
	}
	long replicas = graph->replicas, parts = replicas * graph->microbatches, samples = norm->x->shape[0] / parts;
	long rows = tensor_elements(norm->x) / norm->x->shape[1] / parts;
	Attributes of = {.synchronised = norm->synchronised && replicas > 1, .parts = parts, .epsilon = norm->epsilon};
	of.groups = of.synchronised ? graph->microbatches : parts;
	of.rows = rows * (parts / of.groups);
	of.chunks = (rows + CHUNK_ROWS - 1) / CHUNK_ROWS;
	of.chunks = of.chunks > MOST_CHUNKS ? MOST_CHUNKS : of.chunks;
	of.chunks -= samples && of.chunks > samples ? of.chunks % samples : 0; // each of one sample, where there are enough
	of.scale = 1 / (double)of.rows;
	if (of.rows < 2)
		fail_at(location, "batch_norm2d: %s has one value for each channel in a micro-batch of a replica: its variance is not defined\n"
		        "use fewer micro-batches, a larger batch%s", tensor_text(graph, norm->x), replicas > 1 && !norm->synchronised ? ", or sync = true" : "");
	Node *made = statistics(graph, name, location, norm, &of);
	RunningStatistics running = {norm->running_mean, norm->running_var, norm->batches_tracked, made->out[0], made->out[1],
	                             norm->momentum, made};
	list_add(graph->arena, &graph->running, running);
	own_buffers(norm, made->block);
	return normalize(graph, name, location, norm, made->out[0], made->out[2], &of);
}

void update_running_statistics(Graph *graph)
{
	for (int i = 0; i < graph->running.count; i++) {
		const RunningStatistics *running = &graph->running.at[i];
		Attributes of = running->node->attributes;
		of.momentum = running->momentum;
		Tensor *in[] = {running->running_mean, running->running_var, running->batches_tracked, running->mean, running->variance};
		Node *node = add_node(graph, OP_RUNNING_STATISTICS, arena_printf(graph->arena, "%s.update", running->running_mean->name),
		                      running->node->location, PHASE_EPILOGUE, in, 5, &of);
		node->block = running->node->block;
	}
}

// ---- shapes. x is [N,C,H,W] where the spec makes a node and [N,H,W,C] in the backward pass.

void shape_channel_partials(Graph *graph, Node *node)
{
	const Attributes *of = &node->attributes;
	long channels = node->in[0]->shape[1];
	add_named_output(graph, node, "mean", graph->real, 3, (long[]){of->parts, of->chunks, channels});
	add_named_output(graph, node, "deviations", graph->real, 3, (long[]){of->parts, of->chunks, channels});
}

static void add_statistics(Graph *graph, Node *node, long groups, long channels)
{
	static const char *const names[] = {"mean", "variance", "rstd"};
	for (int i = 0; i < 3; i++)
		add_named_output(graph, node, names[i], graph->real, 2, (long[]){groups, channels});
}

void shape_channel_statistics(Graph *graph, Node *node)
{
	add_statistics(graph, node, node->attributes.parts, node->in[0]->shape[2]);
}

void shape_merge_statistics(Graph *graph, Node *node)
{
	add_statistics(graph, node, node->attributes.groups, node->in[0]->shape[1]);
}

void shape_normalize(Graph *graph, Node *node)
{
	const Tensor *x = node->in[node->op != OP_NORMALIZE]; // a gradient has the cotangent before it
	add_output(graph, node, graph->real, x->dims, x->shape);
}

void shape_normalize_sums(Graph *graph, Node *node)
{
	const Attributes *of = &node->attributes;
	long channels = node->in[1]->shape[3];
	add_named_output(graph, node, "sums", graph->real, 3, (long[]){of->parts, of->chunks, channels});
	add_named_output(graph, node, "products", graph->real, 3, (long[]){of->parts, of->chunks, channels});
}

void shape_group_sum(Graph *graph, Node *node)
{
	add_output(graph, node, graph->real, 2, (long[]){node->attributes.groups, node->in[0]->shape[1]});
}

// ---- gradient

static Tensor *sum_over(Gradient *g, int input, const char *what, Tensor *t, int dim)
{
	Attributes over = {.scale = 1, .from = dim, .to = dim + 1};
	return make_backward(g, OP_SUM, what ? part_name(g, input, what) : g->names[input], &t, 1, &over);
}

// Where a ReLU alone reads the result, its gradient is the cotangent d here. The sign that it asks for can be computed from x,
// which is read anyway: then d needs no memory. Gives the ReLU's own cotangent, or NULL.
static Tensor *before_relu(const Gradient *g)
{
	const Node *mask = g->dout[0]->producer;
	bool relu = mask->op == OP_RELU_GRAD && mask->in[1]->producer->op == OP_RELU && mask->in[1]->producer->in[0] == g->node->out[0];
	return relu ? mask->in[0] : NULL;
}

// A cotangent that is the same for all pixels of a sample, as that of a mean over pixels, is read as [N,C], before it was expanded:
// where no chunk has rows of two samples.
static Tensor *before_expansion(const Gradient *g, Tensor *d)
{
	const Node *expand = d->producer;
	const Attributes *of = &g->node->attributes, *over = &expand->attributes;
	bool apart = of->chunks * of->parts % d->shape[0] == 0;
	return expand->op == OP_EXPAND && over->from == 1 && over->to == 3 && d->dims == 4 && apart ? expand->in[0] : d;
}

// With n rows in a group: dweight = sum dy xhat, dbias = sum dy,
// dx = weight rstd (dy - (sum dy) / n - xhat (sum dy xhat) / n), the path through mean and variance included.
void gradient_normalize(Gradient *g)
{
	enum { X, MEAN, RSTD, WEIGHT, BIAS };
	Tensor **in = g->node->in, *relu = before_relu(g), *d = before_expansion(g, relu ? relu : g->dout[0]);
	const Attributes *of = &g->node->attributes;
	Tensor *sums_in[] = {d, in[X], in[MEAN], in[RSTD], in[WEIGHT], in[BIAS]};
	Node *chunks = make_backward(g, relu ? OP_NORMALIZE_RELU_SUMS : OP_NORMALIZE_SUMS, part_name(g, X, "chunks"), sums_in, relu ? 6 : 4, of)->producer;
	Tensor *sum = sum_over(g, X, "sum", chunks->out[0], 1), *product = sum_over(g, X, "product", chunks->out[1], 1);
	if (g->wanted[WEIGHT])
		g->din[WEIGHT] = sum_over(g, WEIGHT, NULL, product, 0);
	if (g->wanted[BIAS])
		g->din[BIAS] = sum_over(g, BIAS, NULL, sum, 0);
	if (!g->wanted[X])
		return;
	if (of->synchronised) {
		sum = make_backward(g, OP_GROUP_SUM, part_name(g, X, "group_sum"), &sum, 1, of);
		product = make_backward(g, OP_GROUP_SUM, part_name(g, X, "group_product"), &product, 1, of);
	}
	Tensor *grad_in[] = {d, in[X], in[MEAN], in[RSTD], in[WEIGHT], [NORMALIZE_GRAD_SUM] = sum, product, in[BIAS]};
	g->din[X] = make_backward(g, relu ? OP_NORMALIZE_RELU_GRAD : OP_NORMALIZE_GRAD, g->names[X], grad_in, relu ? 8 : 7, of);
}

// ---- placements. Synchronised statistics are one for all replicas: Shard(0) in time, Replicate on dp.

// A rule for samples: images are Shard(0), and so are statistics, but where replicas share them. Not on tp: that would share
// out the samples of one group.
static Rule *add_samples(Rules *rules, const Node *node, bool shared)
{
	Rule *rule = add_rule(rules);
	rule->on = ON_SAMPLES;
	for (int i = 0; i < node->ins; i++)
		if (node->in[i]->dims == 4 || (node->in[i]->dims == 2 && (i == 0 || !shared)))
			rule->in[i] = S(0);
	for (int i = 0; i < node->outs; i++)
		rule->out[i] = S(0);
	return rule;
}

// A rule for channels: the last dim of everything.
static void add_channels(Rules *rules, const Node *node)
{
	Rule *rule = add_rule(rules);
	rule->on = ON_TP;
	for (int i = 0; i < node->ins; i++)
		if (node->in[i]->dims > 0)
			rule->in[i] = S(node->in[i]->dims - 1);
	for (int i = 0; i < node->outs; i++)
		rule->out[i] = S(node->out[i]->dims - 1);
}

// Normalisation, its sums and its gradient.
void placement_normalize(const Node *node, Rules *rules)
{
	bool synchronised = node->attributes.synchronised;
	add_rule(rules);
	add_samples(rules, node, false)->on = synchronised ? ON_MICRO : ON_SAMPLES;
	if (synchronised)
		add_samples(rules, node, true)->on = ON_DP;
	add_channels(rules, node);
}

void placement_channel_partials(const Node *node, Rules *rules)
{
	add_rule(rules);
	add_samples(rules, node, false);
	add_channels(rules, node);
}

void placement_channel_statistics(const Node *node, Rules *rules)
{
	add_rule(rules);
	Rule *rule = add_samples(rules, node, false);
	rule->in[0] = rule->in[1] = S(0);
	add_channels(rules, node);
}

void placement_merge_statistics(const Node *node, Rules *rules)
{
	add_rule(rules);
	add_samples(rules, node, false)->on = ON_MICRO;
	add_channels(rules, node);
}

void placement_group_sum(const Node *node, Rules *rules)
{
	add_rule(rules);
	add_samples(rules, node, false)->on = ON_MICRO;
	Rule *rule = add_samples(rules, node, false);
	rule->out[0] = P;
	rule->on = ON_DP;
	add_channels(rules, node);
}

void placement_running_statistics(const Node *node, Rules *rules)
{
	add_rule(rules);
	add_channels(rules, node);
}
