// spec.h: from a Lua file to a logical graph. Everything the user wrote is checked here or reported with its line.
#ifndef SPEC_H
#define SPEC_H

#include "../graph/graph.h"

// What the command line says that a spec can see or that replaces what the spec says.
typedef struct {
	const char *file;               // SPEC.lua as the user named it
	LIST(const char *) defines;     // "NAME=VALUE"
	Type real;                      // --dtype (tf32 is f32 with tf32 set)
	bool training;                  // --mode
	long batch;                     // 0: the spec's
	int microbatches;               // 0: the spec's
	const char *mesh;               // NULL: the spec's
	bool sequence_parallel;
} SpecOptions;

typedef enum { DATA_IDX, DATA_TENSORS, DATA_TOKENS } DataKind;

// A loaded spec.
typedef struct {
	Graph *graph;                   // forward nodes, results
	const char *name;               // of the program
	int mesh[ALL_AXES];             // sizes; [AXIS_MICRO] is the number of micro-batches
	const Location *mesh_location;  // where the spec says it; NULL: command line
	const Location *location;       // of mp.program
	DataKind data;
	long vocabulary;                // DATA_TOKENS: ids are below it
	int steps;                      // 0: an epoch
	bool sequence_parallel;         // asked for, and tp > 1
	const char *prefix;             // that names in files may have or lack; NULL: none
	LIST(const char *) ignored;     // patterns of names in files that are no part of the model
	const char *config;             // text of config.json; NULL: none
	LIST(const char *) sources;     // files read: the spec and the modules under its folder, for the hash
	LIST(const char *) options;     // "width=1000": every option with its value, in order of declaration
} Spec;

// Runs the spec and returns its graph. Does not return on a mistake of the user.
Spec *load_spec(Arena *arena, const SpecOptions *options);

// "dp=2,tp=2" or "1" into sizes (others 1; [AXIS_MICRO] untouched). Ends with EXIT_USAGE on a mistake.
void parse_mesh(const char *text, int mesh[ALL_AXES]);

#endif
