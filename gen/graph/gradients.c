// gradients.c: the gradient rules of the op table. A rule writes the vector-Jacobian product of one op with
// ordinary ops of the table, so backward placement, fusion and communication need no rules of their own.
#include <string.h>

#include "rules.h"

Tensor *make_backward(Gradient *g, Op op, const char *name, Tensor *const *in, int ins, const Attributes *attributes)
{
	int before = g->graph->nodes.count;
	Node *node = add_node(g->graph, op, name, g->node->location, PHASE_BACKWARD, in, ins, attributes);
	for (int i = before; i < g->graph->nodes.count; i++) // with what its shape rule put before it
		g->graph->nodes.at[i]->block = g->node->block;
	return node->out[0];
}

const char *part_name(Gradient *g, int i, const char *part)
{
	return arena_printf(g->graph->arena, "%s.%s", g->names[i], part);
}

// Chunks of 32 rows or more, as many as give an H100 four blocks of mp_column_sums for each multiprocessor; a block has 32 strips
// of 16 bytes. Few rows are one chunk: a block of 2 strips reads as many at once, and a second kernel would take as long as the first. So
// are more rows of a tensor that was just made and is in cache, which does not mind that blocks read pieces of 32 bytes.
long column_sums_chunks(const Tensor *x, int dims, long rows)
{
	enum { BLOCKS = 4 * 132, CHUNK_ROWS = 32, TILE_BYTES = 32 * 16, FEW_ROWS = 256, CACHED_ROWS = 16 * 132, CACHED_BYTES = 8 << 20 };
	long columns = 1;
	for (int d = dims; d < x->dims; d++)
		columns *= x->shape[d];
	long tile = TILE_BYTES / (long)type_size(x->type), most = BLOCKS / ((columns + tile - 1) / tile);
	long chunks = rows / CHUNK_ROWS < most ? rows / CHUNK_ROWS : most;
	if (x->dims == dims || chunks < 2 || rows <= FEW_ROWS)
		return 0;
	return rows <= CACHED_ROWS && rows * columns * (long)type_size(x->type) <= CACHED_BYTES ? 1 : chunks;
}

Tensor *make_column_sums(Gradient *g, const char *name, Tensor *x, int dims, long rows)
{
	Attributes of = {.scale = 1, .from = 0, .to = dims, .chunks = column_sums_chunks(x, dims, rows)};
	return make_backward(g, of.chunks ? OP_COLUMN_SUMS : OP_SUM, name, &x, 1, &of);
}

// However few they are: a kernel makes sums for several tensors, and they are added up by one launch.
long partial_sums_chunks(const Tensor *partials)
{
	long chunks = column_sums_chunks(partials, 1, partials->shape[0]);
	return chunks ? chunks : 1;
}

Tensor *make_partial_sums(Gradient *g, const char *name, Tensor *partials)
{
	Attributes of = {.scale = 1, .from = 0, .to = 1, .chunks = partial_sums_chunks(partials)};
	return make_backward(g, OP_COLUMN_SUMS, name, &partials, 1, &of);
}

// What batch normalisation takes the mean of away from has no say in its result: the gradient of a bias before it is zero, but for
// rounding. It is made of the sums that the gradient has at hand, so that what is no number stays none.
static Tensor *sum_before_normalize(Gradient *g, int i, const Tensor *d, int dims)
{
	Node *node = d->producer;
	if ((node->op != OP_NORMALIZE_GRAD && node->op != OP_NORMALIZE_RELU_GRAD) || dims != d->dims - 1)
		return NULL;
	Attributes nothing = {.scale = 0, .from = 0, .to = 1};
	return make_backward(g, OP_SUM, g->names[i], &node->in[NORMALIZE_GRAD_SUM], 1, &nothing);
}

// The cotangent of a broadcast operand sums over the dims it was repeated along.
static Tensor *reduce_to(Gradient *g, int i, Tensor *d)
{
	const Tensor *x = g->node->in[i];
	int extra = d->dims - x->dims;
	if (!extra)
		return d;
	Tensor *zero = sum_before_normalize(g, i, d, extra);
	if (zero)
		return zero;
	long rows = 1;
	for (int k = 0; k < extra; k++)
		rows *= d->shape[k];
	return make_column_sums(g, g->names[i], d, extra, rows / ((long)g->graph->microbatches * g->graph->replicas));
}

// The name of the product before reduce_to: the operand's own when nothing is summed.
static const char *product_name(Gradient *g, int i)
{
	return g->node->in[i]->dims == g->dout[0]->dims ? g->names[i] : part_name(g, i, "product");
}

void gradient_cast(Gradient *g)
{
	g->din[0] = g->dout[0]; // the cotangent of a cast has the type of what was cast
}

void gradient_matmul(Gradient *g)
{
	Tensor *a = g->node->in[0], *b = g->node->in[1], *d = g->dout[0];
	Attributes nn = {.transpose = MATMUL_NN}, nt = {.transpose = MATMUL_NT}, tn = {.transpose = MATMUL_TN};
	tn.type = cotangent_type(b);
	tn.typed = tn.type != b->type; // summed over micro-batches in full precision
	switch (g->node->attributes.transpose) {
	case MATMUL_NT: // y = a b^T: the parameter's gradient first, so that its all-reduce can start earlier
		if (g->wanted[1])
			g->din[1] = make_backward(g, OP_MATMUL, g->names[1], (Tensor *[]){d, a}, 2, &tn);
		if (g->wanted[0])
			g->din[0] = make_backward(g, OP_MATMUL, g->names[0], (Tensor *[]){d, b}, 2, &nn);
		break;
	case MATMUL_NN: // y = a b
		if (g->wanted[1])
			g->din[1] = make_backward(g, OP_MATMUL, g->names[1], (Tensor *[]){a, d}, 2, &tn);
		if (g->wanted[0])
			g->din[0] = make_backward(g, OP_MATMUL, g->names[0], (Tensor *[]){d, b}, 2, &nt);
		break;
	case MATMUL_TN:
		assert(!"only backward nodes use A^T B");
	}
}

void gradient_reshape(Gradient *g)
{
	const Tensor *x = g->node->in[0];
	Attributes back = {.dims = x->dims};
	memcpy(back.shape, x->shape, sizeof back.shape);
	g->din[0] = make_backward(g, OP_RESHAPE, g->names[0], g->dout, 1, &back);
}

void gradient_sum(Gradient *g)
{
	const Tensor *x = g->node->in[0];
	const Attributes *a = &g->node->attributes;
	Attributes expand = {.from = a->from, .to = a->to, .typed = true, .type = x->type};
	memcpy(expand.shape, x->shape + a->from, (size_t)(a->to - a->from) * sizeof *x->shape);
	Tensor *d = g->dout[0];
	if (a->scale != 1) {
		Attributes scale = {.scale = a->scale};
		d = make_backward(g, OP_SCALE, part_name(g, 0, "scale"), &d, 1, &scale);
	}
	g->din[0] = make_backward(g, OP_EXPAND, g->names[0], &d, 1, &expand);
}

void gradient_expand(Gradient *g)
{
	const Attributes *a = &g->node->attributes;
	Attributes sum = {.scale = 1, .from = a->from, .to = a->to};
	g->din[0] = make_backward(g, OP_SUM, g->names[0], g->dout, 1, &sum);
}

void gradient_softmax(Gradient *g)
{
	g->din[0] = make_backward(g, OP_SOFTMAX_GRAD, g->names[0], (Tensor *[]){g->dout[0], g->node->out[0]}, 2, NULL);
}

void gradient_cross_entropy(Gradient *g)
{
	Tensor *in[] = {g->node->in[0], g->node->in[1], g->node->out[1], g->dout[0]};
	g->din[0] = make_backward(g, OP_CROSS_ENTROPY_GRAD, g->names[0], in, 4, &g->node->attributes);
}

void gradient_add(Gradient *g)
{
	for (int i = 0; i < 2; i++)
		if (g->wanted[i])
			g->din[i] = reduce_to(g, i, g->dout[0]);
}

void gradient_sub(Gradient *g)
{
	Attributes minus = {.scale = -1};
	if (g->wanted[0])
		g->din[0] = g->dout[0];
	if (g->wanted[1])
		g->din[1] = reduce_to(g, 1, make_backward(g, OP_SCALE, product_name(g, 1), g->dout, 1, &minus));
}

void gradient_mul(Gradient *g)
{
	for (int i = 0; i < 2; i++)
		if (g->wanted[i])
			g->din[i] = reduce_to(g, i, make_backward(g, OP_MUL, product_name(g, i), (Tensor *[]){g->dout[0], g->node->in[!i]}, 2, NULL));
}

// y = a / b: da = dy / b, db = -dy y / b.
void gradient_div(Gradient *g)
{
	Tensor *b = g->node->in[1], *y = g->node->out[0], *d = g->dout[0];
	if (g->wanted[0])
		g->din[0] = make_backward(g, OP_DIV, g->names[0], (Tensor *[]){d, b}, 2, NULL);
	if (g->wanted[1]) {
		Attributes minus = {.scale = -1};
		Tensor *product = make_backward(g, OP_MUL, part_name(g, 1, "times_result"), (Tensor *[]){d, y}, 2, NULL);
		Tensor *quotient = make_backward(g, OP_DIV, part_name(g, 1, "over_divisor"), (Tensor *[]){product, b}, 2, NULL);
		g->din[1] = reduce_to(g, 1, make_backward(g, OP_SCALE, product_name(g, 1), &quotient, 1, &minus));
	}
}

void gradient_scale(Gradient *g)
{
	g->din[0] = make_backward(g, OP_SCALE, g->names[0], g->dout, 1, &g->node->attributes);
}

void gradient_relu(Gradient *g)
{
	g->din[0] = make_backward(g, OP_RELU_GRAD, g->names[0], (Tensor *[]){g->dout[0], g->node->out[0]}, 2, NULL);
}

void gradient_gelu_erf(Gradient *g)
{
	g->din[0] = make_backward(g, OP_GELU_ERF_GRAD, g->names[0], (Tensor *[]){g->dout[0], g->node->in[0]}, 2, NULL);
}

void gradient_gelu_tanh(Gradient *g)
{
	g->din[0] = make_backward(g, OP_GELU_TANH_GRAD, g->names[0], (Tensor *[]){g->dout[0], g->node->in[0]}, 2, NULL);
}

void gradient_silu(Gradient *g)
{
	g->din[0] = make_backward(g, OP_SILU_GRAD, g->names[0], (Tensor *[]){g->dout[0], g->node->in[0]}, 2, NULL);
}

void gradient_tanh(Gradient *g)
{
	g->din[0] = make_backward(g, OP_TANH_GRAD, g->names[0], (Tensor *[]){g->dout[0], g->node->out[0]}, 2, NULL);
}

void gradient_sigmoid(Gradient *g)
{
	g->din[0] = make_backward(g, OP_SIGMOID_GRAD, g->names[0], (Tensor *[]){g->dout[0], g->node->out[0]}, 2, NULL);
}

void gradient_permute(Gradient *g)
{
	Attributes back = {.channels_last = !g->node->attributes.channels_last};
	tell_shape(&back, g->node->in[0]);
	g->din[0] = make_backward(g, OP_PERMUTE, g->names[0], g->dout, 1, &back);
}
