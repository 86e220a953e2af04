// convert.c: the nodes that take a tensor from one placement to another on one axis.
//
//   Partial -> Replicate   all-reduce                 Partial -> Shard    reduce-scatter
//   Shard -> Replicate     all-gather                 Replicate -> Shard  a slice
//   Shard -> Shard         all-to-all                 Replicate -> Partial (micro-batches) the first keeps it
//
// NCCL splits and joins the outermost dim of equal pieces. Shards of inner dims, or of dims that do not divide, are packed
// before and unpacked behind; packing pads with zeros, unpacking drops them.
#include <string.h>

#include "place.h"

bool same_placement(Placement a, Placement b)
{
	return a.kind == b.kind && (a.kind != SHARD || a.dim == b.dim);
}

Tensor *append_conversion(Placing *p, Op op, const char *what, Tensor *t, Axis axis, int dim, const Node *consumer, Phase phase)
{
	Graph *graph = p->graph;
	Attributes attributes = {.axis = axis, .dim = dim};
	Node *node = add_node(graph, op, arena_printf(graph->arena, "%s.%s", t->name, what), consumer->location, phase, &t, 1, &attributes);
	graph->nodes.count--; // it belongs to the new lists
	node->block = consumer->block;
	node->evaluation = consumer->evaluation;
	memcpy(node->out[0]->place, t->place, sizeof t->place);
	node->out[0]->parameter = t->parameter;
	list_add(graph->arena, &p->phases[phase], node);
	return node->out[0];
}

// What NCCL moves is a plain run of elements: its shape is already that of one device.
static void make_raw(Tensor *t, long elements)
{
	t->dims = 1;
	t->shape[0] = elements;
	memset(t->place, 0, sizeof t->place);
}

static long packed_elements(const Placing *p, const Tensor *t, int dim, int n)
{
	long elements = 1;
	for (int i = 0; i < t->dims; i++) {
		long extent = local_extent(p->plan, t, i);
		elements *= i == dim ? (extent + n - 1) / n * n : extent;
	}
	return elements;
}

// NCCL splits and joins the outermost dim; a shard of an inner or padded one has to be packed first.
static bool is_outermost(const Placing *p, const Tensor *t, int dim, int n)
{
	for (int i = 0; i < dim; i++)
		if (local_extent(p->plan, t, i) != 1)
			return false;
	return t->shape[dim] % n == 0;
}

static Tensor *pack(Placing *p, Tensor *t, Axis axis, int dim, const Node *consumer, Phase phase)
{
	Tensor *packed = append_conversion(p, OP_PACK, "pack", t, axis, dim, consumer, phase);
	make_raw(packed, packed_elements(p, t, dim, p->plan->mesh[axis]));
	return packed;
}

// `packed` holds a piece of each device's shard of dim; shape is that of the logical tensor.
static Tensor *unpack(Placing *p, Tensor *packed, const Tensor *shape, Placement to, Axis axis, int dim, const Node *consumer, Phase phase)
{
	Tensor *whole = append_conversion(p, OP_UNPACK, "unpack", packed, axis, dim, consumer, phase);
	whole->dims = shape->dims;
	memcpy(whole->shape, shape->shape, sizeof whole->shape);
	memcpy(whole->place, shape->place, sizeof whole->place);
	whole->place[axis] = to;
	return whole;
}

static Tensor *gather(Placing *p, Tensor *t, Axis axis, const Node *consumer, Phase phase)
{
	int dim = t->place[axis].dim, n = p->plan->mesh[axis];
	Tensor *all = append_conversion(p, OP_ALL_GATHER, "all_gather", t, axis, dim, consumer, phase);
	if (is_outermost(p, t, dim, n)) {
		all->place[axis] = (Placement){REPLICATE, 0};
		return all;
	}
	make_raw(all, local_elements(p->plan, t) * n);
	return unpack(p, all, t, (Placement){REPLICATE, 0}, axis, dim, consumer, phase);
}

static Tensor *scatter(Placing *p, Tensor *t, Axis axis, int dim, const Node *consumer, Phase phase)
{
	Tensor shape = *t;
	if (!is_outermost(p, t, dim, p->plan->mesh[axis]))
		t = pack(p, t, axis, dim, consumer, phase);
	Tensor *piece = append_conversion(p, OP_REDUCE_SCATTER, "reduce_scatter", t, axis, dim, consumer, phase);
	piece->dims = shape.dims;
	memcpy(piece->shape, shape.shape, sizeof piece->shape);
	memcpy(piece->place, shape.place, sizeof piece->place);
	piece->place[axis] = (Placement){SHARD, dim};
	return piece;
}

static Tensor *exchange(Placing *p, Tensor *t, Axis axis, int dim, const Node *consumer, Phase phase)
{
	Tensor *packed = pack(p, t, axis, dim, consumer, phase);
	Tensor *pieces = append_conversion(p, OP_ALL_TO_ALL, "all_to_all", packed, axis, dim, consumer, phase);
	return unpack(p, pieces, t, (Placement){SHARD, dim}, axis, t->place[axis].dim, consumer, phase);
}

Tensor *insert_conversion(Placing *p, Tensor *t, Axis axis, Placement to, const Node *consumer, Phase phase)
{
	Placement from = t->place[axis];
	if (from.kind == PARTIAL && to.kind == SHARD)
		return scatter(p, t, axis, to.dim, consumer, phase);
	if (from.kind == SHARD && to.kind == REPLICATE)
		return gather(p, t, axis, consumer, phase);
	if (from.kind == SHARD)
		return exchange(p, t, axis, to.dim, consumer, phase);
	Tensor *result;
	if (from.kind == PARTIAL)
		result = append_conversion(p, OP_ALL_REDUCE, "all_reduce", t, axis, 0, consumer, phase);
	else if (to.kind == SHARD)
		result = append_conversion(p, OP_SLICE, "slice", t, axis, to.dim, consumer, phase);
	else
		result = append_conversion(p, OP_KEEP_FIRST, "keep_first", t, axis, 0, consumer, phase);
	result->place[axis] = to;
	return result;
}
