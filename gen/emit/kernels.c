// kernels.c: the kernels that the programs call, each instantiated once from its template.
#include <string.h>

#include "../embedded.h"
#include "source.h"

// Whether two kernels are one: comments follow from the rest.
static bool same_kernel(const Kernel *a, const Kernel *b)
{
	bool same = !strcmp(a->template_name, b->template_name) && a->type == b->type && a->narrow == b->narrow && a->slot_count == b->slot_count;
	for (int i = 0; same && i < a->slot_count; i++)
		same = !strcmp(a->slots[i].name, "comment") || !strcmp(a->slots[i].value, b->slots[i].value);
	return same;
}

const char *use_kernel(Kernels *kernels, const Kernel *kernel)
{
	int namesakes = 0;
	for (int i = 0; i < kernels->kernels.count; i++) {
		const Kernel *known = &kernels->kernels.at[i];
		if (strncmp(known->name, kernel->name, strlen(kernel->name)))
			continue;
		if (same_kernel(known, kernel))
			return known->name;
		namesakes++;
	}
	Kernel fresh = *kernel;
	while (true) { // "mul_add" may exist with other operands
		bool taken = false;
		for (int i = 0; i < kernels->kernels.count; i++)
			taken |= !strcmp(kernels->kernels.at[i].name, fresh.name);
		if (!taken)
			break;
		fresh.name = arena_printf(kernels->emit->arena, "%s_%d", kernel->name, ++namesakes);
	}
	list_add(kernels->emit->arena, &kernels->kernels, fresh);
	return fresh.name;
}

// A function that asks for the attributes of every kernel in `source`: the runtime loads what it is asked about. A kernel that is a C++
// template has one parameter, which is true or false.
static void emit_loader(Text *source, Arena *arena)
{
	static const char mark[] = "__global__ void ", either[] = "template <bool ";
	Text calls = {.arena = arena};
	for (const char *c = source->at; (c = strstr(c, mark)); ) {
		const char *line = c;
		while (line > source->at && line[-1] != '\n')
			line--;
		c += sizeof mark - 1;
		bool is_template = !strncmp(line, either, sizeof either - 1);
		for (int i = 0; i <= is_template; i++)
			text_add(&calls, "\tCUDA(cudaFuncGetAttributes(&unused, (const void *)%.*s%s));\n", (int)strcspn(c, "("), c,
			         !is_template ? "" : i ? "<true>" : "<false>");
	}
	text_add(source, "\n// Loads every kernel now. At its first launch it would wait for the device, and with it for communication.\nvoid load_kernels(void)\n{\n");
	if (calls.at)
		text_add(source, "#ifdef __CUDACC__\n\tcudaFuncAttributes unused;\n%s#endif\n", calls.at);
	text_add(source, "}\n");
}

// The types that the template asks for: `real` of its elements, `full` of what is computed and kept in full precision.
static int bind_types(const Emit *emit, const Kernel *kernel, const char *text, Binding params[2])
{
	int count = 0;
	if (strstr(text, " real; //@ param"))
		params[count++] = (Binding){"real", c_type(kernel->type)};
	if (strstr(text, " full; //@ param"))
		params[count++] = (Binding){"full", c_type(kernel->narrow ? kernel->type : emit->plan->graph->master)};
	return count;
}

void emit_kernels(Text *source, Text *header, const Kernels *kernels)
{
	const Emit *emit = kernels->emit;
	emit_banner(source, emit);
	text_add(source, "// Every kernel of the programs, instantiated from mpgen's templates.\n#include \"kernels.h\"\n#include \"mp.h\"\n#include \"mp_kernel.h\"\n");
	emit_banner(header, emit);
	text_add(header, "// Launchers of the kernels in kernels.cu.\n#ifndef KERNELS_H\n#define KERNELS_H\n%s#include <cuda_runtime_api.h>\n",
	         emit->plan->graph->real == TYPE_BF16 ? "#include \"mp_bf16.h\"\n\n" : "");
	for (int i = 0; i < kernels->kernels.count; i++) {
		const Kernel *kernel = &kernels->kernels.at[i];
		const char *text = read_template(emit, arena_printf(emit->arena, "%s.cu", kernel->template_name));
		Binding params[2];
		int param_count = bind_types(emit, kernel, text, params);
		expand_template(source, kernel->template_name, text, kernel->name, params, param_count, kernel->slots, kernel->slot_count);
		template_declaration(header, kernel->template_name, text, kernel->name, params, param_count, kernel->slots, kernel->slot_count);
	}
	emit_loader(source, emit->arena);
	text_add(header, "\n// Makes the device hold every kernel.\nvoid load_kernels(void);\n\n#endif\n");
}
