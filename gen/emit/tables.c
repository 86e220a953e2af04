// tables.c: the constant tables at the end of program_K.cu: state, inputs, outputs, metrics, and the program itself.
#include "source.h"

static void emit_shape(Text *out, int dims, const long *shape)
{
	text_add(out, "%d, {", dims);
	for (int i = 0; i < dims; i++)
		text_add(out, "%s%ld", i ? ", " : "", shape[i]);
	text_add(out, "%s}", dims ? "" : "0");
}

// The row of a state whose pieces begin at row `piece`. Returns how many these are.
static int emit_state(Text *out, const Emit *emit, const Role *role, const Node *node, int piece)
{
	const Tensor *t = node->out[0];
	const Parameter *parameter = node->op == OP_PARAMETER ? node->attributes.parameter : NULL;
	Init init = parameter ? parameter->init : (Init){.kind = INIT_CONSTANT};
	static const char *const inits[] = {"mp_init::MP_CONSTANT", "mp_init::MP_UNIFORM", "mp_init::MP_NORMAL"};
	text_add(out, "\t{%s, mp_state::%s, %s, ", c_string(emit->arena, t->name), !parameter ? "MP_OPTIMIZER" : parameter->trained ? "MP_PARAMETER" : "MP_BUFFER", mp_type(t->type));
	emit_shape(out, t->dims, t->shape);
	text_add(out, ", {");
	for (int i = 0; i < t->dims || i == 0; i++) {
		int axis = AXIS_MICRO;
		for (int a = AXIS_DP; a < PLACED_AXES; a++)
			if (t->place[a].kind == SHARD && t->place[a].dim == i)
				axis = a;
		text_add(out, "%s%s", i ? ", " : "", axis_constant(axis));
	}
	int pieces = count_pieces(emit, node);
	int own = find_buffer(emit->plan, role, t), first = t->in_halves ? find_buffer(emit->plan, role, working_copy(role, t)->out[0]) : own;
	const char *in_files = pieces ? arena_printf(emit->arena, "pieces + %d, %d", piece, pieces) : "NULL, 0";
	text_add(out, "}, %zu, %s, %s, {%s, %s, %s}, %s},\n", role->buffers.at[first].offset,
	         own == first ? "-1" : own < 0 ? "-2" : arena_printf(emit->arena, "%zu", role->buffers.at[own].offset), in_files, inits[init.kind],
	         c_number(emit->arena, TYPE_F64, init.a), c_number(emit->arena, TYPE_F64, init.b), stage_of(emit->plan, node) == role->stage ? "true" : "false");
	return pieces;
}

static int emit_states(Text *out, const Emit *emit, const Role *role)
{
	int count = 0, piece = 0;
	emit_pieces(out, emit, role);
	for (int i = 0; i < role->nodes[PHASE_PROLOGUE].count; i++) {
		const Node *node = role->nodes[PHASE_PROLOGUE].at[i];
		if (node->op != OP_PARAMETER && node->op != OP_STATE)
			continue;
		if (!count++)
			text_add(out, "// name, kind, type, dims, shape, axis of each dim, offset, that of lower halves (-1: stored whole, -2: not kept), pieces in files, initial values, owned\nstatic const struct mp_state states[] = {\n");
		piece += emit_state(out, emit, role, node, piece);
	}
	if (count)
		text_add(out, "};\n\n");
	return count;
}

static void emit_input(Text *out, const Emit *emit, const Input *input)
{
	const Tensor *t = input->tensor;
	text_add(out, "\t{%s, %s, ", c_string(emit->arena, input->name), mp_type(t->type));
	emit_shape(out, t->dims - 1, t->shape + 1);
	text_add(out, ", %ld},\n", input->limit);
}

static const Input *data_input(const Emit *emit, const Role *role, int i)
{
	const Graph *graph = emit->plan->graph;
	const Input *input = NULL;
	if (!role && i < graph->inputs.count)
		input = graph->inputs.at[i];
	else if (role && role->nodes[PHASE_PROLOGUE].at[i]->op == OP_INPUT)
		input = role->nodes[PHASE_PROLOGUE].at[i]->attributes.input;
	return input && input->kind == INPUT_DATA ? input : NULL;
}

int emit_inputs(Text *out, const Emit *emit, const Role *role)
{
	int count = 0, n = role ? role->nodes[PHASE_PROLOGUE].count : emit->plan->graph->inputs.count;
	for (int i = 0; i < n; i++) {
		const Input *input = data_input(emit, role, i);
		if (!input)
			continue;
		if (!count++)
			text_add(out, "// name, type, dims and shape of a sample, limit of labels\nstatic const struct mp_input inputs[] = {\n");
		emit_input(out, emit, input);
	}
	if (count)
		text_add(out, "};\n\n");
	return count;
}

static int emit_outputs(Text *out, const Emit *emit, const Role *role)
{
	int count = 0;
	for (int i = 0; i < role->nodes[PHASE_EPILOGUE].count; i++) {
		const Node *node = role->nodes[PHASE_EPILOGUE].at[i];
		if (node->op != OP_OUTPUT)
			continue;
		if (!count++)
			text_add(out, "// name, type, dims and shape of a sample\nstatic const struct mp_output outputs[] = {\n");
		text_add(out, "\t{%s, %s, ", c_string(emit->arena, node->attributes.result->name), mp_type(node->in[0]->type));
		emit_shape(out, node->in[0]->dims - 1, node->in[0]->shape + 1);
		text_add(out, "},\n");
	}
	if (count)
		text_add(out, "};\n\n");
	return count;
}

// The row of a metric in the role's table; -1: none.
static int metric_index(const Role *role, const Node *metric)
{
	int index = 0;
	for (int i = 0; metric && i < role->nodes[PHASE_EPILOGUE].count; i++) {
		if (role->nodes[PHASE_EPILOGUE].at[i] == metric)
			return index;
		index += role->nodes[PHASE_EPILOGUE].at[i]->op == OP_METRIC;
	}
	return -1;
}

static int emit_metrics(Text *out, const Emit *emit, const Role *role)
{
	int count = 0;
	for (int i = 0; i < role->nodes[PHASE_EPILOGUE].count; i++) {
		const Node *node = role->nodes[PHASE_EPILOGUE].at[i];
		if (node->op != OP_METRIC)
			continue;
		if (!count++)
			text_add(out, "// name, index of its count, only while evaluating\nstatic const struct mp_metric metrics[] = {\n");
		bool is_value = node->attributes.count || !node->attributes.result->count;
		text_add(out, "\t{%s, %d, %s},\n", c_string(emit->arena, arena_printf(emit->arena, "%s%s", node->attributes.result->name, is_value ? "" : ".count")),
		         metric_index(role, node->attributes.count), node->evaluation ? "true" : "false");
	}
	if (count)
		text_add(out, "};\n\n");
	return count;
}

static const char *table(const Emit *emit, const char *name, int count)
{
	return count ? arena_printf(emit->arena, "%s, %d", name, count) : "NULL, 0";
}

static const char *schedule(const Emit *emit, const char *name, const Actions *actions)
{
	return actions->count ? arena_printf(emit->arena, "{%s_actions, %d}", name, actions->count) : "{NULL, 0}";
}

void emit_tables(Text *out, const Emit *emit, const Role *role)
{
	int states = emit_states(out, emit, role), inputs = emit_inputs(out, emit, role);
	int outputs = emit_outputs(out, emit, role), metrics = emit_metrics(out, emit, role);
	const Tensor *updated = emit_updated(out, emit, role);
	text_add(out, "extern const struct mp_program program_%d = {\n\t\"program_%d\",\n", role->stage, role->stage);
	text_add(out, "\t%zu, // bytes of the arena\n\t%zu, %zu, // workspace: offset, bytes\n", role->arena, role->workspace_offset, role->workspace);
	text_add(out, "\t{{%zu, %zu}, {%zu, %zu}, {%zu, %zu}}, // exchanges over dp, tp and pp: offset, bytes\n", role->exchange[AXIS_DP].offset,
	         role->exchange[AXIS_DP].bytes, role->exchange[AXIS_TP].offset, role->exchange[AXIS_TP].bytes, role->exchange[AXIS_PP].offset, role->exchange[AXIS_PP].bytes);
	text_add(out, "\t%s,\n\t%s,\n\t%s,\n\t%s,\n\t%s,\n\t%s,\n\t%s,\n\t%d, // events\n\tload_kernels,\n", table(emit, "states", states), table(emit, "inputs", inputs),
	         table(emit, "outputs", outputs), table(emit, "metrics", metrics), table(emit, "gemms", role->gemms.count), table(emit, "convs", role->convs.count),
	         table(emit, "attentions", role->attentions.count), role->event_instances);
	text_add(out, "\t%s,\n\t%s,\n\t%s,\n", schedule(emit, "train", &role->train), schedule(emit, "evaluate", &role->evaluate),
	         schedule(emit, "infer", &role->infer));
	text_add(out, "\t%s, // behind loading\n", role->functions.at[FUNCTION_LOADED].steps.count ? role->functions.at[FUNCTION_LOADED].name : "NULL");
	if (updated)
		text_add(out, "\tupdated, %zu, sizeof updated, // a constant of the arena: its bytes, offset, size\n",
		         role->buffers.at[find_buffer(emit->plan, role, updated)].offset);
	if (role->uses[STREAM_SIDE])
		text_add(out, "\t%strue, // the side stream has work\n", updated ? "" : "NULL, 0, 0, ");
	text_add(out, "};\n");
}
