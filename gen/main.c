// main.c: the compiler. A spec becomes a graph, the graph a plan, the plan the files of a program.
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "emit/emit.h"
#include "options.h"
#include "plan/plan.h"
#include "spec/spec.h"

// The passes, in order. --dump NAME prints what there is behind one.
static const struct {
	const char *name;
	void (*run)(Plan *plan);
	void (*dump)(const Plan *plan, Text *out);
} passes[] = {
	{"layout", pass_layout, dump_plan_graph},
	{"differentiate", pass_differentiate, dump_plan_graph},
	{"gradients", round_gradients, dump_plan_graph},
	{"zero", store_in_parts, dump_plan_graph},
	{"place", place_tensors, dump_plan_graph},
	{"decompose", decompose_products, dump_plan_graph},
	{"recompute", recompute_activations, dump_plan_graph},
	{"stages", cut_stages, dump_plan_graph},
	{"tied", join_tied_gradients, dump_plan_graph},
	{"norm", measure_gradients, dump_plan_graph},
	{"roles", make_roles, dump_plan},
	{"halves", store_in_halves, dump_plan},
	{"fuse", fuse_steps, dump_plan},
	{"streams", choose_streams, dump_plan},
	{"schedule", make_schedules, dump_plan},
	{"memory", plan_memory, dump_plan},
	{"repeat", find_repeats, dump_plan},
	{"synchronise", synchronise, dump_plan},
};

static void dump(const Plan *plan, void (*print)(const Plan *, Text *))
{
	Text text = {.arena = plan->arena};
	print(plan, &text);
	fwrite(text.at, 1, text.length, stdout);
}

// Runs the passes; returns false when a dump was asked for and printed.
static bool run_passes(Plan *plan, const char *dump_after)
{
	if (dump_after && !strcmp(dump_after, "spec")) {
		dump(plan, dump_plan_graph);
		return false;
	}
	for (size_t i = 0; i < sizeof passes / sizeof *passes; i++) {
		passes[i].run(plan);
		if (dump_after && !strcmp(dump_after, passes[i].name)) {
			dump(plan, passes[i].dump);
			return false;
		}
	}
	return true;
}

// The plan is shown first, also when it does not fit: it tells what takes the memory.
static int explain(const Plan *plan, bool json)
{
	dump(plan, json ? explain_json : explain_plan);
	fflush(stdout);
	check_capacity(plan);
	return EXIT_DONE;
}

int main(int argc, char **argv)
{
	Arena *arena = arena_new();
	const char *names[sizeof passes / sizeof *passes + 1] = {"spec"};
	for (size_t i = 0; i < sizeof passes / sizeof *passes; i++)
		names[i + 1] = passes[i].name;
	Options options = read_options(arena, argc, argv, names, sizeof names / sizeof *names);

	Spec *spec = load_spec(arena, &options.spec);
	Plan *plan = start_plan(arena, spec, &options);
	if (!run_passes(plan, options.dump))
		return EXIT_DONE;
	if (options.explain)
		return explain(plan, options.explain_json);
	check_capacity(plan);

	Emit emit = {arena, plan, spec, options.templates, describe_options(arena, spec, plan, options.trace_steps), options.trace_steps};
	Output output = emit_program(&emit);
	if (options.check)
		return check_output(arena, &output, options.output, options.ignore_version) ? EXIT_DONE : EXIT_STALE;
	write_output(arena, &output, options.output);
	arena_free(arena);
	return EXIT_DONE;
}
