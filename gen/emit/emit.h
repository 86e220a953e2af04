// emit.h: from a plan to the files of an emitted program.
#ifndef EMIT_H
#define EMIT_H

#include "../plan/plan.h"
#include "../spec/spec.h"

typedef struct {
	const char *path;       // relative to the output directory, with '/'
	const char *bytes;
	size_t length;
} File;

typedef struct {
	LIST(File) files;       // sorted by path but for manifest.txt, which is last
} Output;

// What the emitter needs besides the plan.
typedef struct {
	Arena *arena;
	const Plan *plan;
	const Spec *spec;
	const char *templates;  // --templates DIR, or NULL: the embedded ones
	const char *options;    // the command line's effect, a line: "mesh dp=2,tp=1,pp=1 …"
	bool trace_steps;       // the program tells when each step begins and ends
} Emit;

// Every file of the program, in memory. Nothing is written. (output.c)
Output emit_program(const Emit *emit);

// Writes the files into directory: all of them or, on an error, none is left half-written. Overwrites and removes only
// what the manifest there lists; a foreign file in the way ends with EXIT_IO. (files.c)
void write_output(Arena *arena, const Output *output, const char *directory);

// Compares directory with what would be written; prints a diff and returns false when it differs. (check.c)
bool check_output(Arena *arena, const Output *output, const char *directory, bool ignore_version);

#define MPGEN_VERSION "0.1.0"

#endif
