// optimizer_calls.c: the calls of the optimizer's kernels, and the table of gradients whose norm is computed.
#include "source.h"

// What the gradient is multiplied by before its use; "NULL" without clipping.
static const char *scale_of(const Emit *emit, const Role *role, const Node *update)
{
	const Tensor *last = update->in[update->ins - 1];
	return last->producer->op == OP_GRADIENT_NORM ? place_of(emit, role, last, "0") : "NULL";
}

static const char *place_of_state(const Emit *emit, const Role *role, const Node *update, int which)
{
	for (int i = 0; i < update->ins; i++)
		if (update->in[i]->producer->op == OP_STATE && which-- == 0)
			return place_of(emit, role, update->in[i], "0");
	return "NULL";
}

const char *update_call(const Emit *emit, const Role *role, const Node *node, const char *launcher)
{
	const Attributes *a = &node->attributes;
	Type type = node->in[0]->type;
	Text call = {.arena = emit->arena};
	text_add(&call, "%s(%s, %s, ", launcher, place_of(emit, role, node->in[0], "0"), place_of_state(emit, role, node, 0));
	if (node->op == OP_ADAMW)
		text_add(&call, "%s, ", place_of_state(emit, role, node, 1));
	text_add(&call, "%s, %s, ", place_of(emit, role, node->in[1], "0"), place_of(emit, role, node->in[2], "0"));
	if (node->op == OP_ADAMW)
		text_add(&call, "%s, ", place_of(emit, role, node->in[5], "0"));
	text_add(&call, "%s, %ld, ", scale_of(emit, role, node), local_elements(emit->plan, node->in[0]));
	if (node->op == OP_ADAMW)
		text_add(&call, "%s, %s, %s, ", c_number(emit->arena, TYPE_F64, a->betas[0]), c_number(emit->arena, TYPE_F64, a->betas[1]),
		         c_number(emit->arena, type, a->epsilon));
	else
		text_add(&call, "%s, ", c_number(emit->arena, type, a->momentum));
	text_add(&call, "%s", c_number(emit->arena, type, a->decay));
	return call.at;
}

const char *norm_call(const Emit *emit, const Role *role, const Node *node, const char *launcher)
{
	Type type = node->out[0]->type;
	const char *first = place_of(emit, role, node->out[0], "0"), *second = place_of(emit, role, node->out[1], "0");
	const char *in = place_of(emit, role, node->in[0], "0");
	if (node->op == OP_GRADIENT_NORM)
		return arena_printf(emit->arena, "%s(%s, %s, %s, %ld, %s", launcher, first, second, in, tensor_elements(node->in[0]),
		                    c_number(emit->arena, type, node->attributes.scale));
	return arena_printf(emit->arena, "%s(%s, %s, %s, r->arena, %ld, %ld, %ld, %d, r->tp == 0", launcher, first, second, in,
	                    node->in[0]->shape[0], tensor_elements(node->out[1]), tensor_elements(node->out[0]), NORM_CHUNK);
}

static void emit_gradient(Text *out, const Emit *emit, const Role *role, const Node *update, long *chunk)
{
	const Graph *graph = emit->plan->graph;
	const Tensor *gradient = update->in[1];
	const Buffer *buffer = &role->buffers.at[find_buffer(emit->plan, role, gradient)];
	int index = 0;
	while (graph->parameters.at[index] != update->attributes.parameter)
		index++;
	long elements = local_elements(emit->plan, gradient), chunks = norm_chunks(emit->plan, gradient);
	assert(buffer->slots == 1 && buffer->offset % NORM_UNIT == 0);
	text_add(out, "\t{%zu, %d, %ld, %ld, %ld, %d}, // %s\n", buffer->offset / NORM_UNIT, index, *chunk, chunks, elements - (chunks - 1) * NORM_CHUNK,
	         gradient->place[AXIS_TP].kind == SHARD, c_comment(emit->arena, gradient->name));
	*chunk += chunks;
}

const Tensor *emit_gradients(Text *out, const Emit *emit, const Role *role)
{
	const Tensor *table = NULL;
	long chunk = 0;
	int rows = 0;
	for (int i = 0; i < role->nodes[PHASE_PROLOGUE].count; i++)
		if (role->nodes[PHASE_PROLOGUE].at[i]->op == OP_TABLE)
			table = role->nodes[PHASE_PROLOGUE].at[i]->out[0];
	if (!table)
		return NULL;
	text_add(out, "// The gradients that the norm counts: offset in the arena / %d, parameter of the model, first chunk, chunks of %d elements,\n"
	         "// elements of the last chunk, whether each rank of tp has its own part\nstatic const int gradients[][%d] = {\n", NORM_UNIT, NORM_CHUNK, NORM_COLUMNS);
	for (int i = 0; i < role->nodes[PHASE_EPILOGUE].count; i++)
		if (is_update(role->nodes[PHASE_EPILOGUE].at[i])) {
			emit_gradient(out, emit, role, role->nodes[PHASE_EPILOGUE].at[i], &chunk);
			rows++;
		}
	text_add(out, "%s};\n\n", rows ? "" : "\t{0, -1, 0, 0, 0, 0}, // none\n");
	return table;
}
