// image_calls.c: the calls of kernels on images, of batch statistics and of dropout.
#include "source.h"

static void add_numbers(Text *call, const long *numbers, int count)
{
	for (int i = 0; i < count; i++)
		text_add(call, ", %ld", numbers[i]);
}

static void add_permute(Text *call, const Emit *emit, const Node *node)
{
	const Tensor *x = node->in[0];
	int channel = node->attributes.channels_last ? 1 : 3, from = node->attributes.channels_last ? 2 : 1;
	long channels = local_extent(emit->plan, x, channel), pixels = local_product(emit->plan, x, from, from + 2);
	bool last = node->attributes.channels_last;
	add_numbers(call, (long[]){local_extent(emit->plan, x, 0), last ? channels : pixels, last ? pixels : channels}, 3);
}

// Extents of the larger image, those of the smaller one, and the windows.
static void add_pool(Text *call, const Emit *emit, const Node *node)
{
	bool backward = node->op == OP_MAX_POOL2D_GRAD || node->op == OP_AVG_POOL2D_GRAD || node->op == OP_ADAPTIVE_AVG_POOL2D_GRAD;
	const Tensor *x = backward ? node->out[0] : node->in[0], *y = backward ? node->in[0] : node->out[0];
	const Window *w = &node->attributes.window;
	for (int i = 0; i < 4; i++)
		text_add(call, ", %ld", local_extent(emit->plan, x, i));
	add_numbers(call, (long[]){local_extent(emit->plan, y, 1), local_extent(emit->plan, y, 2)}, 2);
	if (node->op == OP_ADAPTIVE_AVG_POOL2D || node->op == OP_ADAPTIVE_AVG_POOL2D_GRAD)
		return;
	add_numbers(call, (long[]){w->kernel[0], w->kernel[1], w->stride[0], w->stride[1], w->padding[0], w->padding[1]}, 6);
	if (node->op == OP_MAX_POOL2D || node->op == OP_MAX_POOL2D_GRAD)
		add_numbers(call, (long[]){w->dilation[0], w->dilation[1]}, 2);
	else
		text_add(call, ", %s", w->counts_padding ? "true" : "false");
}

// "groups, chunks, rows, channels" of statistics that are taken of x or made of its chunks.
static void add_chunks(Text *call, const Emit *emit, const Node *node)
{
	const Attributes *of = &node->attributes;
	const Tensor *chunks = node->op == OP_CHANNEL_STATISTICS ? node->in[0] : node->out[0];
	add_numbers(call, (long[]){local_extent(emit->plan, chunks, 0), of->chunks, of->rows * of->groups / of->parts, local_extent(emit->plan, chunks, 2)}, 4);
}

static void add_statistics(Text *call, const Emit *emit, const Node *node)
{
	const Attributes *of = &node->attributes;
	const char *epsilon = c_number(emit->arena, emit->plan->graph->real, of->epsilon);
	if (node->op == OP_CHANNEL_STATISTICS) {
		add_chunks(call, emit, node);
		text_add(call, ", %s, r->evaluating", epsilon);
		return;
	}
	long groups = local_extent(emit->plan, node->out[0], 0), parts = local_extent(emit->plan, node->in[0], 0);
	add_numbers(call, (long[]){groups, parts / groups, local_extent(emit->plan, node->out[0], 1)}, 3);
	text_add(call, ", %s", epsilon);
}

// A gradient's sums are taken with the mean and deviation of its own group.
static void check_groups(const Emit *emit, const Node *node)
{
	if (local_extent(emit->plan, node->in[2], 0) != local_extent(emit->plan, node->out[0], 0))
		fail_at(node->location, "batch_norm2d with sync = true needs images that are sharded over dp");
}

static void add_normalize_sums(Text *call, const Emit *emit, const Node *node)
{
	const Tensor *dy = node->in[0], *x = node->in[1];
	check_groups(emit, node);
	add_chunks(call, emit, node);
	text_add(call, ", %ld", dy->dims < x->dims ? local_product(emit->plan, x, 1, 3) : 1); // pixels that share a row of dy
}

static void add_normalize_partials(Text *call, const Emit *emit, const Node *node)
{
	const Tensor *x = node->in[0];
	long groups = local_extent(emit->plan, node->in[1], 0);
	add_numbers(call, (long[]){groups, local_extent(emit->plan, x, 0) / groups, node->attributes.chunks, local_product(emit->plan, x, 1, 3),
	            local_extent(emit->plan, x, 3)}, 5);
}

static void add_group_sum(Text *call, const Emit *emit, const Node *node)
{
	long groups = local_extent(emit->plan, node->out[0], 0), parts = local_extent(emit->plan, node->in[0], 0);
	add_numbers(call, (long[]){groups, parts / groups, local_extent(emit->plan, node->in[0], 1)}, 3);
	text_add(call, ", %s, false", c_number(emit->arena, emit->plan->graph->real, 1));
}

static void add_running(Text *call, const Emit *emit, const Node *node)
{
	const Attributes *of = &node->attributes;
	add_numbers(call, (long[]){of->groups, of->rows, local_extent(emit->plan, node->in[0], 0)}, 3);
	text_add(call, ", %s", c_number(emit->arena, emit->plan->graph->real, of->momentum));
}

const char *first_index(const Emit *emit, const Tensor *x, int dim, long each, const char *slot)
{
	const int *mesh = emit->plan->mesh;
	Text first = {.arena = emit->arena};
	long piece = x->shape[dim];
	for (int axis = AXIS_MICRO; axis < PLACED_AXES; axis++) {
		if (mesh[axis] == 1 || x->place[axis].kind != SHARD || x->place[axis].dim != dim)
			continue;
		piece = (piece + mesh[axis] - 1) / mesh[axis];
		const char *coordinate = axis == AXIS_MICRO ? slot : arena_printf(emit->arena, "r->%s", axis_name(axis));
		text_add(&first, "%s%s * %ldL", first.length ? " + " : "", coordinate, piece * each);
	}
	return first.length ? first.at : "0";
}

// In a loop of equal layers the number rises with the layer.
const char *layer_number(const Emit *emit, const Role *role, unsigned number)
{
	const Loop *loop = role->inside;
	if (!loop)
		return arena_printf(emit->arena, "0x%08xu", number);
	unsigned step = loop->descending ? -loop->layer_step : loop->layer_step, before = (unsigned)(loop->base + (loop->descending ? loop->count - 1 : 0));
	return arena_printf(emit->arena, "0x%08xu + layer * 0x%08xu", number - step * before, step); // number: of the layer that runs first
}

static long whole_product(const Tensor *t, int from, int to)
{
	long n = 1;
	for (int i = from; i < to; i++)
		n *= t->shape[i];
	return n;
}

static bool is_shared_out(const Plan *plan, const Tensor *t, int dim)
{
	bool is = false;
	for (int axis = 0; axis < PLACED_AXES; axis++)
		is |= plan->mesh[axis] > 1 && t->place[axis].kind == SHARD && t->place[axis].dim == dim;
	return is;
}

// "outer, extent, columns, first, outer_numbers, numbers": elements are numbered as in the whole tensor.
static void add_mask(Text *call, const Emit *emit, const Role *role, const Node *node, const char *slot)
{
	const Plan *plan = emit->plan;
	const Tensor *x = node->in[0];
	const Attributes *of = &node->attributes;
	const char *rate = c_number(emit->arena, plan->graph->master, of->scale);
	int cuts[PLACED_AXES + 1], count = 0; // dims that are shared out, at most two
	for (int d = 0; d < x->dims; d++)
		if (is_shared_out(plan, x, d))
			cuts[count++] = d;
	assert(count <= 2);
	int last = count ? cuts[count - 1] : 0, before = count == 2 ? cuts[0] : 0;
	long inner = count ? whole_product(x, last + 1, x->dims) : 1, row = count ? x->shape[last] * inner : 0;
	add_numbers(call, (long[]){local_product(plan, x, 0, before), local_product(plan, x, before, last), local_product(plan, x, last, x->dims)}, 3);
	text_add(call, ", %s", first_index(emit, x, last, inner, slot));
	if (count == 2)
		text_add(call, " + %s", first_index(emit, x, before, whole_product(x, before + 1, x->dims), slot));
	add_numbers(call, (long[]){count == 2 ? whole_product(x, before, x->dims) : 0, row}, 2);
	text_add(call, ", %s, %s, r->evaluating", layer_number(emit, role, of->layer), rate);
}

bool add_image_extents(Text *call, const Emit *emit, const Role *role, const Node *node, const char *slot)
{
	switch (node->op) {
	case OP_PERMUTE: add_permute(call, emit, node); break;
	case OP_MAX_POOL2D: case OP_MAX_POOL2D_GRAD: case OP_AVG_POOL2D: case OP_AVG_POOL2D_GRAD:
	case OP_ADAPTIVE_AVG_POOL2D: case OP_ADAPTIVE_AVG_POOL2D_GRAD:
		add_pool(call, emit, node);
		break;
	case OP_NORMALIZE_SUMS: case OP_NORMALIZE_RELU_SUMS: add_normalize_sums(call, emit, node); break;
	case OP_NORMALIZE_RELU_PARTIALS: add_normalize_partials(call, emit, node); break;
	case OP_CHANNEL_PARTIALS: add_chunks(call, emit, node); break;
	case OP_CHANNEL_STATISTICS: case OP_MERGE_STATISTICS: add_statistics(call, emit, node); break;
	case OP_GROUP_SUM: add_group_sum(call, emit, node); break;
	case OP_RUNNING_STATISTICS: add_running(call, emit, node); break;
	case OP_DROPOUT: add_mask(call, emit, role, node, slot); break;
	default: return false;
	}
	return true;
}
