// options.h: mpgen's command line.
#ifndef OPTIONS_H
#define OPTIONS_H

#include "plan/plan.h"
#include "spec/spec.h"

typedef struct {
	SpecOptions spec;
	const char *output;             // -o; NULL only with --explain and --dump
	const char *templates;
	const char *dump;               // a pass, or NULL
	bool explain, explain_json, check, ignore_version;
	bool tf32, deterministic, trace_steps;
	bool zero;                      // --zero 1
	bool rounded;                   // --gradients bf16
	int recompute;                  // of Plan.recompute
	const Device *device;
	ScheduleKind schedule;
} Options;

// Reads the command line. Prints and exits for --help, --version and mistakes (EXIT_USAGE). passes: the names that
// --dump takes.
Options read_options(Arena *arena, int argc, char **argv, const char *const *passes, int pass_count);

// A plan before its first pass: the spec's graph on the mesh that spec and command line say.
Plan *start_plan(Arena *arena, const Spec *spec, const Options *options);

// What the command line and the spec chose, in a line, for the manifest: independent of how it was written.
const char *describe_options(Arena *arena, const Spec *spec, const Plan *plan, bool trace_steps);

// Passes of other rooms in the form of the list in main.c.
void pass_layout(Plan *plan);
void pass_differentiate(Plan *plan);
void dump_plan_graph(const Plan *plan, Text *out);

#endif
