// pooled_norm.c: the mean over pixels of images that were normalised and went through a ReLU, without these images.
//
// Where the sum alone reads them (the gradient of batch normalisation computes the ReLU's sign again), writing them and reading
// them back would be the most that the layer moves, and where a stage ends between the two, all that it sends. Here the ReLU's
// node gives the sums of chunks of each sample's pixels instead; the sum that was there adds the chunks. Done for every plan or
// for none, before anything is placed.
#include "rules.h"

enum { MOST_CHUNKS = 256, CHUNK_PIXELS = 64 };

static int readers(const Graph *graph, const Tensor *t)
{
	int n = 0;
	for (int i = 0; i < graph->nodes.count; i++)
		for (int k = 0; k < graph->nodes.at[i]->ins; k++)
			n += graph->nodes.at[i]->in[k] == t;
	return n;
}

// The ReLU whose result node sums over pixels, behind a normalisation with the statistics of a group; NULL: it sums something else.
static Node *summed_relu(const Graph *graph, const Node *node)
{
	const Attributes *over = &node->attributes;
	if (node->op != OP_SUM || node->phase != PHASE_FORWARD || node->in[0]->dims != 4 || over->from != 1 || over->to != 3)
		return NULL;
	Node *relu = node->in[0]->producer;
	const Node *norm = relu->op == OP_RELU ? relu->in[0]->producer : NULL;
	bool alone = norm && norm->op == OP_NORMALIZE && norm->attributes.groups && norm->block == relu->block
	    && readers(graph, relu->out[0]) == 1 && readers(graph, norm->out[0]) == 1;
	return alone ? relu : NULL;
}

// relu becomes what sums chunks of pixels, and takes over what its normalisation read.
static void sum_chunks(Node *relu, Node *sum)
{
	const Node *norm = relu->in[0]->producer;
	Tensor *y = relu->out[0];
	long samples = y->shape[0] / norm->attributes.parts, pixels = y->shape[1] * y->shape[2];
	long most = samples < MOST_CHUNKS ? MOST_CHUNKS / samples : 1, chunks = (pixels + CHUNK_PIXELS - 1) / CHUNK_PIXELS;
	relu->op = OP_NORMALIZE_RELU_PARTIALS;
	relu->attributes = norm->attributes;
	relu->attributes.chunks = chunks < most ? chunks : most;
	for (int i = 0; i < norm->ins; i++)
		relu->in[i] = norm->in[i];
	relu->ins = norm->ins;
	y->shape[1] = relu->attributes.chunks;
	y->shape[2] = y->shape[3];
	y->dims = 3;
	y->channels_last = false;
	sum->attributes.to = 2;
}

void sum_normalized_images(Graph *graph)
{
	bool any = false;
	for (int i = 0; i < graph->nodes.count; i++) {
		Node *relu = summed_relu(graph, graph->nodes.at[i]);
		if (relu)
			sum_chunks(relu, graph->nodes.at[i]);
		any |= relu != NULL;
	}
	if (any)
		remove_dead_nodes(graph); // normalisations that are no longer read
}
