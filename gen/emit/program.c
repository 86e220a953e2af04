// program.c: program_K.cu, what one role runs: its library calls, events, functions, schedules and tables.
#include <string.h>

#include "source.h"

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
	number_library_calls(emit, role);
	emit_banner(out, emit);
	text_add(out, "// Program %d of %d: pipeline stage %d. See plan.txt for the schedule and the memory map.\n#define MP_PROGRAM %d\n"
	         "#include \"memory.h\"\n#include \"kernels.h\"\n\n", role->stage, emit->plan->stages, role->stage, role->stage);
	emit_library_tables(out, emit, role);
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
