// program.c: program_K.cu, what one role runs: its GEMMs, events, functions, schedules and tables.
#include <string.h>

#include "source.h"

static const char *constant_name(const Emit *emit, const Role *role, const char *name)
{
	char *id = arena_strdup(emit->arena, name);
	for (char *c = id; *c; c++) {
		if (*c >= 'a' && *c <= 'z')
			*c = (char)(*c - 'a' + 'A');
		else if (!(*c >= 'A' && *c <= 'Z') && !(*c >= '0' && *c <= '9'))
			*c = '_';
	}
	for (int i = 0; i < role->gemms.count; i++)
		if (!strcmp(role->gemms.at[i].constant, id))
			return constant_name(emit, role, arena_printf(emit->arena, "%s_also", id));
	for (int i = 0; i < role->events.count; i++)
		if (!strcmp(role->events.at[i].name, id))
			return constant_name(emit, role, arena_printf(emit->arena, "%s_gemm", id));
	return id;
}

static Gemm describe_gemm(const Emit *emit, const Role *role, const Step *step)
{
	const Node *node = step->nodes.at[0];
	const Tensor *a = node->in[0], *b = node->in[1];
	int last = a->dims - 1;
	long rows = 1;
	for (int i = 0; i < last; i++)
		rows *= local_extent(emit->plan, a, i);
	Gemm gemm = {.name = step->name, .constant = constant_name(emit, role, step->name), .transpose = node->attributes.transpose};
	int inner = (int)local_extent(emit->plan, a, last);
	gemm.m = gemm.transpose == MATMUL_TN ? inner : (int)rows;
	gemm.k = gemm.transpose == MATMUL_TN ? (int)rows : inner;
	gemm.n = (int)local_extent(emit->plan, b, gemm.transpose == MATMUL_NT ? 0 : b->dims - 1);
	gemm.alignment = 16;
	for (int i = 0; i < step->accesses.count; i++) {
		const Buffer *buffer = &role->buffers.at[step->accesses.at[i].buffer];
		while (buffer->slots > 1 && buffer->stride % (size_t)gemm.alignment)
			gemm.alignment /= 2;
	}
	for (int i = 1; i < step->nodes.count; i++) {
		gemm.bias |= step->nodes.at[i]->op == OP_ADD;
		gemm.relu |= step->nodes.at[i]->op == OP_RELU;
	}
	return gemm;
}

static void number_gemms(const Emit *emit, Role *role)
{
	for (int f = 0; f < role->functions.count; f++)
		for (int i = 0; i < role->functions.at[f].steps.count; i++) {
			Step *step = &role->functions.at[f].steps.at[i];
			if (step->kind != STEP_GEMM)
				continue;
			Gemm gemm = describe_gemm(emit, role, step);
			step->gemm = role->gemms.count;
			list_add(emit->arena, &role->gemms, gemm);
		}
}

static void emit_gemms(Text *out, const Emit *emit, const Role *role)
{
	static const char *const epilogues[2][2] = {{"MP_NO_EPILOGUE", "MP_RELU"}, {"MP_BIAS", "MP_BIAS_RELU"}};
	static const char *const transposes[] = {"MP_NN", "MP_NT", "MP_TN"};
	if (!role->gemms.count)
		return;
	text_add(out, "// Matrix products: C[m,n] = op(A) op(B), then the epilogue.\nenum {");
	for (int i = 0; i < role->gemms.count; i++)
		text_add(out, "%s%s", i % 4 ? ", " : i ? ",\n\t" : "\n\t", role->gemms.at[i].constant);
	text_add(out, "\n};\nstatic const struct mp_gemm gemms[] = {\n");
	text_add(out, "\t// name, m, n, k, transpose, epilogue, type, tf32, alignment\n");
	for (int i = 0; i < role->gemms.count; i++) {
		const Gemm *g = &role->gemms.at[i];
		text_add(out, "\t{%s, %d, %d, %d, %s, %s, %s, %s, %d},\n", c_string(emit->arena, g->name), g->m, g->n, g->k, transposes[g->transpose],
		         epilogues[g->bias][g->relu], mp_type(emit->plan->graph->real), emit->plan->tf32 ? "true" : "false", g->alignment);
	}
	text_add(out, "};\n\n");
}

static void emit_events(Text *out, const Role *role)
{
	if (!role->events.count)
		return;
	text_add(out, "// Events. Where a buffer has several slots, its event has an instance for each.\nenum {\n");
	for (int i = 0; i < role->events.count; i++) {
		const Event *e = &role->events.at[i];
		text_add(out, "\t%s = %d,\n", e->name, e->first);
	}
	text_add(out, "\tEVENTS = %d\n};\n\n", role->event_instances);
}

static void emit_schedule(Text *out, const Emit *emit, const Role *role, const char *name, const Actions *actions)
{
	if (!actions->count)
		return;
	text_add(out, "static const struct mp_action %s_actions[] = {\n", name);
	for (int i = 0; i < actions->count; i++) {
		const Action *a = &actions->at[i];
		text_add(out, "\t{%s, %s, %d, %d},\n", c_string(emit->arena, a->name), role->functions.at[a->function].name, a->first, a->second);
	}
	text_add(out, "};\n\n");
}

void emit_program_file(Text *out, Kernels *kernels, const Role *constant_role)
{
	const Emit *emit = kernels->emit;
	Role *role = (Role *)constant_role;
	number_gemms(emit, role);
	emit_banner(out, emit);
	text_add(out, "// Program %d of %d: pipeline stage %d. See plan.txt for the schedule and the memory map.\n#define MP_PROGRAM %d\n"
	         "#include \"memory.h\"\n#include \"kernels.h\"\n\n", role->stage, emit->plan->stages, role->stage, role->stage);
	emit_gemms(out, emit, role);
	emit_events(out, role);
	for (int f = 0; f < role->functions.count; f++) {
		const Function *function = &role->functions.at[f];
		bool forks = function->kind == FUNCTION_BEGIN || function->kind == FUNCTION_END;
		if (function->steps.count || (forks && role->event_instances))
			emit_steps(out, kernels, role, function);
	}
	emit_schedule(out, emit, role, "train", &role->train);
	emit_schedule(out, emit, role, "evaluate", &role->evaluate);
	emit_schedule(out, emit, role, "infer", &role->infer);
	emit_tables(out, emit, role);
}
