// row_calls.c: the calls of kernels on rows of activations: norms, rotary embeddings, gated units.
#include "source.h"

static void add_norm(Text *call, const Emit *emit, const Role *role, const Node *node)
{
	const Tensor *x = node->in[0];
	if (node->op == OP_LAYER_NORM && node->ins == 2)
		text_add(call, ", NULL"); // no bias
	text_add(call, ", %ld, %ld, %s", local_product(emit->plan, x, 0, x->dims - 1) / pieces_written(role), x->shape[x->dims - 1],
	         c_number(emit->arena, emit->plan->graph->master, node->attributes.epsilon));
}

static void add_norm_grad(Text *call, const Emit *emit, const Node *node)
{
	const Tensor *x = node->in[1];
	text_add(call, ", %ld, %ld, %ld", local_product(emit->plan, x, 0, x->dims - 1), x->shape[x->dims - 1], node->attributes.chunks);
}

static void add_rope(Text *call, const Emit *emit, const Node *node, const char *slot)
{
	const Tensor *x = node->in[0];
	const Rotary *rotary = &node->attributes.rotary;
	text_add(call, ", %ld, %ld, %ld, %ld, %s, %s", local_extent(emit->plan, x, 0), local_product(emit->plan, x, 1, 3), x->shape[3], x->shape[4],
	         first_index(emit, x, 0, 1, slot), rotary->back ? "true" : "false");
	const double numbers[] = {rotary->theta, rotary->factor, rotary->low, rotary->high, rotary->original};
	for (int i = 0; i < 5; i++)
		text_add(call, ", %s", c_number(emit->arena, TYPE_F64, numbers[i]));
}

static void add_halves(Text *call, const Emit *emit, const Tensor *rows)
{
	text_add(call, ", %ld, %ld", local_product(emit->plan, rows, 0, rows->dims - 1), local_extent(emit->plan, rows, rows->dims - 1));
}

bool add_row_extents(Text *call, const Emit *emit, const Role *role, const Node *node, const char *slot)
{
	switch (node->op) {
	case OP_LAYER_NORM: case OP_RMS_NORM: add_norm(call, emit, role, node); break;
	case OP_LAYER_NORM_GRAD: case OP_RMS_NORM_GRAD: add_norm_grad(call, emit, node); break;
	case OP_ROPE: add_rope(call, emit, node, slot); break;
	case OP_SWIGLU: add_halves(call, emit, node->out[0]); break;
	case OP_SWIGLU_GRAD: add_halves(call, emit, node->in[0]); break;
	default: return false;
	}
	return true;
}
