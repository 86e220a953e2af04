// driver.c: loads a spec as mpgen would and prints what came of it, for the cases in this folder.
//
//   driver [-D NAME=VALUE] [--mesh AXES] [--batch N] [--microbatches N] [--infer] [--f64] [--summary] SPEC.lua
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../gen/spec/spec.h"

#ifdef READ_LIBRARY_FROM_DISK
#include "../../gen/embedded.h"

// Stands in for the embedded files: run in the repository's root.
const char *embedded_file(const char *path, size_t *size)
{
	static char bytes[1 << 16];
	FILE *file = fopen(path, "rb");
	if (!file)
		return NULL;
	*size = fread(bytes, 1, sizeof bytes, file);
	fclose(file);
	return bytes;
}
#endif

static void print_place(const Tensor *t)
{
	static const char *const axes[] = {"mb", "dp", "tp"};
	for (int axis = 0; axis < PLACED_AXES; axis++)
		if (t->pinned[axis] && t->place[axis].kind == SHARD)
			printf(" %s:%d", axes[axis], t->place[axis].dim + 1);
		else if (t->pinned[axis])
			printf(" %s:replicate", axes[axis]);
}

static void print_graph(Arena *arena, const Graph *graph)
{
	for (int i = 0; i < graph->blocks.count; i++) {
		const Block *block = &graph->blocks.at[i];
		printf("block %d %s line %d%s\n", i, block->name, block->location->line, block->cut ? " cut" : "");
	}
	for (int i = 0; i < graph->nodes.count; i++) {
		const Node *node = graph->nodes.at[i];
		printf("%d: %s %s", node->block, op_name(node->op), node->name);
		for (int k = 0; k < node->ins; k++)
			printf("%s%s", k ? ", " : "(", node->in[k]->name);
		printf("%s %s line %d", node->ins ? ")" : "", shape_text(arena, node->out[0]), node->location->line);
		print_place(node->out[0]);
		putchar('\n');
	}
	for (int i = 0; i < graph->parameters.count; i++) {
		const Parameter *p = graph->parameters.at[i];
		printf("parameter %s init %d %.6g %.6g%s\n", p->name, (int)p->init.kind, p->init.a, p->init.b, p->decay ? "" : " no decay");
	}
	for (int i = 0; i < graph->results.count; i++) {
		const Result *r = graph->results.at[i];
		printf("%s %s = %s%s%s%s\n", r->kind == RESULT_METRIC ? "metric" : "output", r->name, r->tensor->name,
		       r->count ? " over " : "", r->count ? r->count->name : "", r->evaluation ? " while evaluating" : "");
	}
}

static void print_spec(Arena *arena, const Spec *spec, bool with_graph)
{
	const Optimizer *o = &spec->graph->optimizer;
	printf("program %s batch %ld microbatches %d dp %d tp %d pp %d steps %d data %d\n", spec->name, spec->graph->batch,
	       spec->mesh[AXIS_MICRO], spec->mesh[AXIS_DP], spec->mesh[AXIS_TP], spec->mesh[AXIS_PP], spec->steps, (int)spec->data);
	if (o->kind == OPTIMIZER_ADAMW)
		printf("adamw betas %g %g epsilon %g rate %g weight_decay %g schedule %d warmup %d least %g clip %g\n", o->betas[0], o->betas[1],
		       o->epsilon, o->rate, o->weight_decay, (int)o->schedule, o->warmup, o->least_rate, o->clip);
	else
		printf("sgd rate %g momentum %g weight_decay %g schedule %d warmup %d\n", o->rate, o->momentum, o->weight_decay,
		       (int)o->schedule, o->warmup);
	for (int i = 0; i < spec->options.count; i++)
		printf("option %s\n", spec->options.at[i]);
	for (int i = 0; i < spec->sources.count; i++)
		printf("source %s\n", spec->sources.at[i]);
	if (with_graph)
		print_graph(arena, spec->graph);
}

int main(int argc, char **argv)
{
	Arena *arena = arena_new();
	SpecOptions options = {.real = TYPE_F32, .training = true};
	bool with_graph = true;
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "-D") && i + 1 < argc)
			list_add(arena, &options.defines, argv[++i]);
		else if (!strcmp(argv[i], "--mesh") && i + 1 < argc)
			options.mesh = argv[++i];
		else if (!strcmp(argv[i], "--batch") && i + 1 < argc)
			options.batch = atol(argv[++i]);
		else if (!strcmp(argv[i], "--microbatches") && i + 1 < argc)
			options.microbatches = atoi(argv[++i]);
		else if (!strcmp(argv[i], "--infer"))
			options.training = false;
		else if (!strcmp(argv[i], "--f64"))
			options.real = TYPE_F64;
		else if (!strcmp(argv[i], "--summary"))
			with_graph = false;
		else
			options.file = argv[i];
	}
	if (!options.file)
		fail(EXIT_USAGE, "driver: which spec?");
	print_spec(arena, load_spec(arena, &options), with_graph);
	arena_free(arena);
	return EXIT_DONE;
}
