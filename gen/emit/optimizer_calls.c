// optimizer_calls.c: the calls of the optimizer's kernels, and the table of what they go through.
#include "source.h"

// What the gradient is multiplied by before its use; "NULL" without clipping.
static const char *scale_of(const Emit *emit, const Role *role, const Node *update)
{
	const Tensor *last = update->in[update->ins - 1];
	return last->producer->op == OP_GRADIENT_NORM ? place_of(emit, role, last, "0") : "NULL";
}

static const Tensor *operand_of(const Node *update, Op producer, int which)
{
	for (int i = 0; i < update->ins; i++)
		if (update->in[i]->producer->op == producer && which-- == 0)
			return update->in[i];
	return NULL;
}

const char *update_call(const Emit *emit, const Role *role, const Step *step, const char *launcher)
{
	const Node *node = step->nodes.at[0];
	const Attributes *a = &node->attributes;
	Type type = node->in[0]->type;
	const Tensor *table = operand_of(node, OP_TABLE, 0);
	long chunks = 0;
	for (int i = 0; i < step->nodes.count; i++)
		chunks += table_chunks(emit->plan, step->nodes.at[i]->in[1]);
	Text call = {.arena = emit->arena};
	text_add(&call, "%s(r->arena, %s, %ld, %ld, %d, %s, ", launcher, place_of(emit, role, table, "0"), table->shape[0], chunks, TABLE_CHUNK,
	         place_of(emit, role, node->in[2], "0"));
	if (node->op == OP_ADAMW)
		text_add(&call, "%s, ", place_of(emit, role, node->in[5], "0"));
	text_add(&call, "%s, ", scale_of(emit, role, node));
	if (node->op == OP_ADAMW)
		text_add(&call, "%s, %s, %s, ", c_number(emit->arena, TYPE_F64, a->betas[0]), c_number(emit->arena, TYPE_F64, a->betas[1]),
		         c_number(emit->arena, type, a->epsilon));
	else
		text_add(&call, "%s, ", c_number(emit->arena, type, a->momentum));
	text_add(&call, "%s", c_number(emit->arena, type, emit->plan->graph->optimizer.weight_decay));
	return call.at;
}

// On which axes this rank is not the first, of those whose ranks add up what each counts.
static const char *behind_of(const Emit *emit)
{
	bool dp = counts_apart(emit->plan, AXIS_DP), tp = counts_apart(emit->plan, AXIS_TP);
	return dp && tp ? "(r->dp > 0) << MP_DP | (r->tp > 0) << MP_TP" : dp ? "(r->dp > 0) << MP_DP" : tp ? "(r->tp > 0) << MP_TP" : "0";
}

const char *norm_call(const Emit *emit, const Role *role, const Node *node, const char *launcher)
{
	Type type = node->out[0]->type;
	const char *first = place_of(emit, role, node->out[0], "0"), *second = place_of(emit, role, node->out[1], "0");
	const char *in = place_of(emit, role, node->in[0], "0");
	if (node->op == OP_GRADIENT_NORM)
		return arena_printf(emit->arena, "%s(%s, %s, %s, %ld, %s", launcher, first, second, in, tensor_elements(node->in[0]),
		                    c_number(emit->arena, type, node->attributes.scale));
	return arena_printf(emit->arena, "%s(%s, %s, %s, r->arena, %ld, %ld, %ld, %d, %s", launcher, first, second, in,
	                    node->in[0]->shape[0], tensor_elements(node->out[1]), tensor_elements(node->out[0]), TABLE_CHUNK, behind_of(emit));
}

// Where a tensor lies, in units of the table; -1: there is none.
static long unit_of(const Emit *emit, const Role *role, const Tensor *t)
{
	if (!t)
		return -1;
	const Buffer *buffer = &role->buffers.at[find_buffer(emit->plan, role, t)];
	assert(buffer->slots == 1 && buffer->offset % TABLE_UNIT == 0);
	return (long)(buffer->offset / TABLE_UNIT);
}

// A row of the table, in the order of runtime/mp_table.h.
static void emit_row(Text *out, const Emit *emit, const Role *role, const Node *update, long *chunk)
{
	const Graph *graph = emit->plan->graph;
	const Tensor *gradient = update->in[1];
	const Node *copy = working_copy(role, update->in[0]);
	int index = 0;
	while (graph->parameters.at[index] != update->attributes.parameter)
		index++;
	long elements = local_elements(emit->plan, gradient), chunks = table_chunks(emit->plan, gradient);
	const Tensor *weight = update->in[0], *copied = copy ? copy->out[0] : NULL;
	text_add(out, "\t{%ld, %ld, %ld, %ld, %ld, %ld, %d, %ld, %ld, %ld, %d, %d, %d}, // %s\n", unit_of(emit, role, gradient),
	         unit_of(emit, role, weight->in_halves ? NULL : weight), unit_of(emit, role, operand_of(update, OP_STATE, 0)),
	         unit_of(emit, role, operand_of(update, OP_STATE, 1)), unit_of(emit, role, copied), unit_of(emit, role, weight->in_halves ? weight : NULL),
	         index, *chunk, chunks, elements - (chunks - 1) * TABLE_CHUNK,
	         (gradient->place[AXIS_DP].kind == SHARD) << 0 | (gradient->place[AXIS_TP].kind == SHARD) << 1, update->attributes.decay != 0,
	         gradient->type != graph->master, c_comment(emit->arena, weight->name));
	*chunk += chunks;
}

const Tensor *emit_updated(Text *out, const Emit *emit, const Role *role)
{
	const Tensor *table = NULL;
	long chunk = 0;
	int rows = 0;
	for (int i = 0; i < role->nodes[PHASE_PROLOGUE].count; i++)
		if (role->nodes[PHASE_PROLOGUE].at[i]->op == OP_TABLE)
			table = role->nodes[PHASE_PROLOGUE].at[i]->out[0];
	if (!table || find_buffer(emit->plan, role, table) < 0)
		return NULL;
	text_add(out, "// What the optimizer goes through: places in the arena / %d of gradient, parameter, its states, its working copy and,\n// where that is its upper half, its lower one (-1: none);\n"
	         "// parameter of the model, first chunk, chunks of %d elements, elements of the last chunk; whether ranks have parts of it: 1 of dp,\n"
	         "// 2 of tp; whether weight decay applies; whether the gradient is in the compute type\nstatic const int updated[][%d] = {\n", TABLE_UNIT, TABLE_CHUNK, TABLE_COLUMNS);
	for (int i = 0; i < role->nodes[PHASE_EPILOGUE].count; i++)
		if (is_update(role->nodes[PHASE_EPILOGUE].at[i])) {
			emit_row(out, emit, role, role->nodes[PHASE_EPILOGUE].at[i], &chunk);
			rows++;
		}
	text_add(out, "%s};\n\n", rows ? "" : "\t{-1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0}, // nothing\n");
	return table;
}
