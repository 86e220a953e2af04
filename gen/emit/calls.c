// calls.c: the calls of kernels that have a template of their own: which operands and extents each takes.
#include "source.h"

// All micro-batches at once, outside of the micro-batch phases.
static long elements(const Emit *emit, const Role *role, const Tensor *t)
{
	const Buffer *buffer = &role->buffers.at[find_buffer(emit->plan, role, t)];
	return local_elements(emit->plan, t) * (buffer->whole ? buffer->slots : 1);
}

static const char *coordinate(const Emit *emit, Axis axis, const char *slot)
{
	return axis == AXIS_MICRO ? slot : arena_printf(emit->arena, "r->%s", axis_name(axis));
}

// "outer, extent, piece, inner" of the tensor that is whole on the axis.
static void add_split(Text *call, const Emit *emit, const Tensor *whole, int dim, int size)
{
	long extent = local_extent(emit->plan, whole, dim);
	text_add(call, ", %ld, %ld, %ld, %ld", local_product(emit->plan, whole, 0, dim), extent, (extent + size - 1) / size,
	         local_product(emit->plan, whole, dim + 1, whole->dims));
}

static void add_rows(Text *call, const Emit *emit, const Tensor *t)
{
	text_add(call, ", %ld, %ld", local_product(emit->plan, t, 0, t->dims - 1), local_extent(emit->plan, t, t->dims - 1));
}

static void add_sum(Text *call, const Emit *emit, const Node *node, const char *slot)
{
	const Tensor *x = node->in[0];
	const Attributes *a = &node->attributes;
	text_add(call, ", %ld, %ld, %ld, %s, ", local_product(emit->plan, x, 0, a->from), local_product(emit->plan, x, a->from, a->to), local_product(emit->plan, x, a->to, x->dims),
	         c_number(emit->arena, emit->plan->graph->master, a->scale));
	if (node->accumulate)
		text_add(call, "%s > 0", slot);
	else
		text_add(call, "false");
}

// "column_sums({{{fc1_bias_grad(r), fc1_bias_grad_partials(r), fc1_relu_grad(r)}}}, 16, 1000, 1, mb > 0"
static const char *sums_call(const Emit *emit, const Role *role, const Step *step, const char *launcher, const char *slot)
{
	const Node *first = step->nodes.at[0];
	const Tensor *x = first->in[0];
	const Attributes *a = &first->attributes;
	Text call = {.arena = emit->arena};
	text_add(&call, "%s({{", launcher);
	for (int i = 0; i < step->nodes.count; i++) {
		const Node *node = step->nodes.at[i];
		text_add(&call, "%s{%s, %s, %s}", i ? ", " : "", place_of(emit, role, node->out[0], slot), node->outs > 1 ? place_of(emit, role, node->out[1], slot) : "NULL",
		         place_of(emit, role, node->in[0], slot));
	}
	text_add(&call, "}}, %ld, %ld, %ld, ", local_product(emit->plan, x, 0, a->to), local_product(emit->plan, x, a->to, x->dims), a->chunks);
	text_add(&call, first->accumulate ? "%s > 0" : "false", slot);
	return call.at;
}

static void add_extents(Text *call, const Emit *emit, const Role *role, const Node *node, const char *slot)
{
	const Attributes *a = &node->attributes;
	int size = emit->plan->mesh[a->axis];
	switch (node->op) {
	case OP_SUM: add_sum(call, emit, node, slot); break;
	case OP_SOFTMAX: case OP_SOFTMAX_GRAD:
		add_rows(call, emit, node->in[0]);
		break;
	case OP_COUNT_VALID: text_add(call, ", %ld", elements(emit, role, node->in[0])); break;
	case OP_SLICE:
		add_split(call, emit, node->in[0], a->dim, size);
		text_add(call, ", %s", coordinate(emit, a->axis, slot));
		break;
	case OP_PACK:
		add_split(call, emit, node->in[0], a->dim, size);
		text_add(call, ", %d", size);
		break;
	case OP_UNPACK:
		add_split(call, emit, node->out[0], a->dim, size);
		text_add(call, ", %d", size);
		break;
	case OP_CLEAR_PADDING: {
		const Tensor *t = node->in[0];
		text_add(call, ", %ld, %ld, %ld, mp_shard_valid(%ld, %d, %s)", local_product(emit->plan, t, 0, a->dim), local_extent(emit->plan, t, a->dim),
		         local_product(emit->plan, t, a->dim + 1, t->dims), t->shape[a->dim], size, coordinate(emit, a->axis, slot));
		break;
	}
	case OP_KEEP_FIRST:
		text_add(call, ", %ld, %s == 0", elements(emit, role, node->in[0]), coordinate(emit, a->axis, slot));
		break;
	case OP_ACCUMULATE: text_add(call, ", %ld, %s == 0", elements(emit, role, node->in[0]), slot); break;
	default: {
		bool known = add_image_extents(call, emit, role, node, slot) || add_row_extents(call, emit, role, node, slot)
		    || add_language_extents(call, emit, node, slot);
		assert(known && "an op lowered to a kernel has its extents here");
		(void)known;
	}
	}
}

// The type that a template calls real: that of what the op reads, where it makes statistics, losses or sums of it.
static Type element_type(const Emit *emit, const Node *node)
{
	switch (node->op) {
	case OP_EMBEDDING_GRAD: return node->in[1]->type;
	case OP_SGD: case OP_ADAMW: case OP_SQUARED_NORMS: return emit->plan->graph->real;
	case OP_SUM: case OP_COLUMN_SUMS: case OP_CROSS_ENTROPY: case OP_CORRECT: case OP_CLASS_SUMS: case OP_CLASS_BEST: return node->in[0]->type;
	default: return node->outs ? node->out[0]->type : emit->plan->graph->master;
	}
}

const char *launcher_of(Kernels *kernels, Op op, Type type)
{
	const char *name = op_table[op].expression;
	Kernel kernel = {.name = type == kernels->emit->plan->graph->real || op == OP_COUNT_VALID ? name
	                     : arena_printf(kernels->emit->arena, "%s_%s", name, type_name(type)),
	                 .template_name = name, .type = type};
	return use_kernel(kernels, &kernel);
}

// Rows of a table that is not kept in full precision where they are looked up.
static const char *narrow_launcher(Kernels *kernels, const Node *lookup)
{
	Type type = lookup->out[0]->type;
	Kernel kernel = {.name = arena_printf(kernels->emit->arena, "embedding_of_%s", type_name(type)), .template_name = "embedding", .type = type, .narrow = true};
	return use_kernel(kernels, &kernel);
}

static const char *plain_launcher(Kernels *kernels, const Node *node)
{
	if (node->op == OP_EMBEDDING && node->in[1]->type != kernels->emit->plan->graph->master)
		return narrow_launcher(kernels, node);
	return launcher_of(kernels, node->op, element_type(kernels->emit, node));
}

const char *kernel_call(Kernels *kernels, const Role *role, const Function *function, const Step *step, const char *slot)
{
	(void)function;
	const Emit *emit = kernels->emit;
	const Node *node = kernel_of(step), *last = step->nodes.at[step->nodes.count - 1];
	Text call = {.arena = emit->arena}, joined = {.arena = emit->arena}; // what element-wise nodes of the step read
	bool front = node != step->nodes.at[0], behind = op_table[last->op].lowering == LOWER_ELEMENTWISE;
	const char *launcher = front || behind ? joined_launcher(kernels, role, step, slot, &joined) : plain_launcher(kernels, node);
	if (is_update(node))
		return update_call(emit, role, step, launcher);
	if (node->op == OP_COLUMN_SUMS)
		return sums_call(emit, role, step, launcher, slot);
	if (node->op == OP_SQUARED_NORMS || node->op == OP_GRADIENT_NORM)
		return norm_call(emit, role, node, launcher);
	text_add(&call, "%s(", launcher);
	for (int i = 0; i < node->outs; i++)
		text_add(&call, "%s%s", i ? ", " : "", place_of(emit, role, i || !behind ? node->out[i] : last->out[0], slot));
	if (joins_behind(node) && !sums_result(node))
		text_add(&call, ", NULL");
	for (int i = 0; i < node->ins; i++)
		if (!node->outs || !writes_operand(node, i)) // else it is the result
			text_add(&call, "%s%s%s", i || node->outs ? ", " : "", place_of(emit, role, node->in[i], slot), front && !i ? joined.at : "");
	text_add(&call, "%s", behind ? joined.at : "");
	add_extents(&call, emit, role, node, slot);
	return call.at;
}
