// elementwise.c: a chain of element-wise nodes as one generated kernel.
//
// The result is seen as rows of `columns` elements, so that every operand is contiguous or constant along a row: its
// index is then i, a row's or a column's, and no element costs a division. What is contiguous is loaded and stored in strips of
// adjacent elements. Without broadcasts the plain template is used. Two steps with the same calls and operands share a kernel, named after its ops.
//
// Some kernels on rows compute a chain as well, which fills slots of their templates: in front of them, where it makes their first
// operand, or behind them, where t0 is an element of their first result. Nothing is broadcast in it.
#include <string.h>

#include "source.h"

// How an operand repeats under the result: element (o, k, c) of [outer, n, inner] reads (o, c) of [outer, inner].
typedef struct {
	const Tensor *tensor;
	long outer, n, inner;
} Operand;

typedef struct {
	Kernels *kernels;
	const Role *role;
	const Step *step;
	LIST(Operand) inputs;   // each once
	LIST(const Tensor *) outputs;
	long elements, columns;
	bool rows;              // some operand is broadcast
	const Node *kernel;     // that the chain is joined with; NULL: none
	const char *indent;     // of the statements for an element
} Chain;

static bool made_inside(const Step *step, const Tensor *t)
{
	for (int i = 0; i < step->nodes.count; i++)
		if (step->nodes.at[i]->out[0] == t)
			return true;
	return false;
}

static Operand describe(const Chain *chain, const Node *node, const Tensor *t)
{
	const Plan *plan = chain->kernels->emit->plan;
	Operand operand = {t, 1, 1, 1};
	if (node->op == OP_EXPAND) {
		const Tensor *result = node->out[0];
		const Attributes *a = &node->attributes;
		operand.outer = local_product(plan, result, 0, a->from);
		operand.n = local_product(plan, result, a->from, a->to);
		operand.inner = local_product(plan, result, a->to, result->dims);
	} else if (node->attributes.groups && t->dims == 2) { // a group's statistics under its pixels
		operand.outer = local_extent(plan, t, 0);
		operand.inner = local_extent(plan, t, 1);
		operand.n = chain->elements / operand.outer / operand.inner;
	} else {
		const Rows *rows = rows_used(chain->step, t);
		operand.inner = local_elements(plan, t) / (rows && rows->ranks ? rows->pieces : 1);
		operand.n = chain->elements / operand.inner;
	}
	if (operand.inner == 1 && operand.outer == 1)
		operand.n = chain->elements;
	return operand;
}

static int input_index(const Chain *chain, const Operand *operand)
{
	for (int i = 0; i < chain->inputs.count; i++) {
		const Operand *known = &chain->inputs.at[i];
		if (known->tensor == operand->tensor && known->n == operand->n && known->inner == operand->inner)
			return i;
	}
	return -1;
}

static bool is_scalar(const Operand *o)
{
	return o->outer == 1 && o->inner == 1;
}

static void collect(Chain *chain)
{
	const Step *step = chain->step;
	Arena *arena = chain->kernels->emit->arena;
	for (int i = 0; i < step->nodes.count; i++) {
		const Node *node = step->nodes.at[i];
		if (node == chain->kernel)
			continue;
		for (int k = 0; k < node->ins; k++) {
			Operand operand = describe(chain, node, node->in[k]);
			if (!made_inside(step, node->in[k]) && input_index(chain, &operand) < 0)
				list_add(arena, &chain->inputs, operand);
		}
		for (int k = 0; k < step->accesses.count; k++)
			if (step->accesses.at[k].write && step->accesses.at[k].tensor == root_of(node->out[0]))
				list_add(arena, &chain->outputs, node->out[0]);
	}
}

// The longest row that every operand allows.
static void choose_columns(Chain *chain)
{
	chain->columns = chain->elements;
	for (int i = 0; i < chain->inputs.count; i++) {
		const Operand *o = &chain->inputs.at[i];
		if (o->n == 1 || is_scalar(o))
			continue;
		chain->rows = true;
		long run = o->inner > 1 ? o->inner : o->n;
		while (run && chain->columns % run != 0 && run % chain->columns != 0) { // greatest common divisor
			long rest = chain->columns % run;
			chain->columns = run;
			run = rest;
		}
		chain->columns = run < chain->columns ? run : chain->columns;
	}
}

static const char *index_of(const Chain *chain, const Operand *o)
{
	Arena *arena = chain->kernels->emit->arena;
	long columns = chain->columns;
	if (is_scalar(o) && o->n > 1)
		return "0";
	if (o->n == 1)
		return "i";
	if (o->inner == 1 && columns > 1) // constant along a row
		return o->n == columns ? "row" : arena_printf(arena, "row / %ld", o->n / columns);
	long within = o->inner / columns, period = o->n * within; // rows of the operand, and of its repetition
	Text row = {.arena = arena};
	if (o->outer > 1)
		text_add(&row, "row / %ld", period);
	if (o->outer > 1 && within > 1)
		text_add(&row, " * %ld", within);
	if (within > 1)
		text_add(&row, "%srow %% %ld", row.length ? " + " : "", within);
	if (!row.length)
		return columns > 1 ? "column" : "0";
	if (columns == 1)
		return row.at;
	return within > 1 && o->outer > 1 ? arena_printf(arena, "(%s) * %ld + column", row.at, columns)
	                                  : arena_printf(arena, "%s * %ld + column", row.at, columns);
}

// Whether adjacent elements of the result read adjacent ones of an operand with this index: it is loaded in strips.
static bool is_strip(const char *index)
{
	const char *end = strstr(index, "column");
	return !strcmp(index, "i") || (end && !strcmp(end, "column"));
}

static const char *operand_text(const Chain *chain, const Node *node, const Tensor *t)
{
	Arena *arena = chain->kernels->emit->arena;
	Type full = chain->kernels->emit->plan->graph->master;
	for (int i = 0; i < chain->step->nodes.count; i++) {
		const Node *made = chain->step->nodes.at[i];
		if (made->out[0] != t)
			continue;
		// What a kernel makes is rounded as where it is stored: another plan may not join the two.
		return made == chain->kernel && t->type != full ? arena_printf(arena, "(%s)%s(t%d)", c_type(full), c_type(t->type), i)
		                                               : arena_printf(arena, "t%d", i);
	}
	Operand operand = describe(chain, node, t);
	int k = input_index(chain, &operand);
	const char *index = index_of(chain, &chain->inputs.at[k]);
	const char *value = t->type == full ? "" : arena_printf(arena, "(%s)", c_type(full));
	return is_strip(index) ? arena_printf(arena, "%sin%d[e]", value, k) : arena_printf(arena, "%sx%d[%s]", value, k, index);
}

static bool has_scale_argument(const Node *node)
{
	return strchr(op_table[node->op].expression, ';') != NULL;
}

static bool is_read_inside(const Step *step, const Tensor *t)
{
	for (int i = 0; i < step->nodes.count; i++)
		for (int k = 0; k < step->nodes.at[i]->ins; k++)
			if (step->nodes.at[i]->in[k] == t)
				return true;
	return false;
}

// "float t1 = mp_relu(t0);", and what is kept of it.
static void add_node_text(Text *body, const Chain *chain, int i, const char *real)
{
	const Emit *emit = chain->kernels->emit;
	const Node *node = chain->step->nodes.at[i];
	const char *expression = op_table[node->op].expression;
	int letters = (int)strcspn(expression, ",;");
	text_add(body, "%s%s t%d = %.*s(", chain->indent, real, i, letters, expression);
	for (int k = 0; k < node->ins; k++)
		text_add(body, "%s%s", k ? ", " : "", operand_text(chain, node, node->in[k]));
	if (expression[letters] == ',')
		text_add(body, "%s%s", node->ins ? ", " : "", c_number(emit->arena, emit->plan->graph->master, node->attributes.scale));
	else if (expression[letters])
		text_add(body, ", scale%d", i);
	text_add(body, ");\n");
	const char *kept = is_working_copy(node) ? arena_printf(emit->arena, "mp_working_copy<%s>(t%d)", c_type(node->out[0]->type), i) : arena_printf(emit->arena, "t%d", i);
	for (int k = 0; k < chain->outputs.count; k++)
		if (chain->outputs.at[k] == node->out[0]) {
			if (!chain->kernel && node->out[0]->type != emit->plan->graph->master && is_read_inside(chain->step, node->out[0]))
				text_add(body, "%st%d = %s(t%d); // as it is stored\n", chain->indent, i, c_type(node->out[0]->type), i);
			text_add(body, "%s%s[e] = %s;\n", chain->indent, chain->kernel ? "to" : arena_printf(emit->arena, "out%d", k), kept);
		}
}

// The statements for element e of a strip.
static void add_nodes_text(Text *body, const Chain *chain)
{
	const char *real = c_type(chain->kernels->emit->plan->graph->master);
	for (int i = 0; i < chain->step->nodes.count; i++)
		if (chain->step->nodes.at[i] != chain->kernel)
			add_node_text(body, chain, i, real);
}

static const char *body_text(const Chain *chain)
{
	Text body = {.arena = chain->kernels->emit->arena};
	for (int i = 0; i < chain->inputs.count; i++) {
		const char *index = index_of(chain, &chain->inputs.at[i]);
		if (is_strip(index))
			text_add(&body, "const auto in%d = mp_load<width>(x%d + %s);\n", i, i, index);
	}
	for (int i = 0; i < chain->outputs.count; i++)
		text_add(&body, "%s out%d[width];\n", c_type(chain->outputs.at[i]->type), i);
	text_add(&body, "MP_EACH_OF_STRIP(e, width) {\n");
	add_nodes_text(&body, chain);
	text_add(&body, "}\n");
	for (int i = 0; i < chain->outputs.count; i++)
		text_add(&body, "mp_store<width>(y%d + i, out%d, width);\n", i, i);
	return body.at;
}

// The tensors of which strips are taken.
static const char *address_text(const Chain *chain)
{
	Text text = {.arena = chain->kernels->emit->arena};
	for (int i = 0; i < chain->outputs.count; i++)
		text_add(&text, "%sy%d", i ? ", " : "", i);
	for (int i = 0; i < chain->inputs.count; i++)
		if (is_strip(index_of(chain, &chain->inputs.at[i])))
			text_add(&text, ", x%d", i);
	return text.at;
}

static Type narrowest_type(const Chain *chain)
{
	Type type = chain->outputs.at[0]->type;
	for (int i = 0; i < chain->outputs.count; i++)
		type = type_size(chain->outputs.at[i]->type) < type_size(type) ? chain->outputs.at[i]->type : type;
	for (int i = 0; i < chain->inputs.count; i++)
		if (is_strip(index_of(chain, &chain->inputs.at[i])) && type_size(chain->inputs.at[i].tensor->type) < type_size(type))
			type = chain->inputs.at[i].tensor->type;
	return type;
}

static const char *parameter_text(const Chain *chain, const char *real, const char *restricted)
{
	Text text = {.arena = chain->kernels->emit->arena};
	for (int i = 0; i < chain->outputs.count; i++)
		text_add(&text, "%s *%sy%d, ", c_type(chain->outputs.at[i]->type), restricted, i);
	for (int i = 0; i < chain->inputs.count; i++)
		text_add(&text, "const %s *%sx%d, ", c_type(chain->inputs.at[i].tensor->type), restricted, i);
	for (int i = 0; i < chain->step->nodes.count; i++)
		if (has_scale_argument(chain->step->nodes.at[i]))
			text_add(&text, "%s scale%d, ", real, i);
	text.at[text.length - 1] = 0;
	return text.at;
}

static const char *argument_text(const Chain *chain)
{
	Text text = {.arena = chain->kernels->emit->arena};
	for (int i = 0; i < chain->outputs.count; i++)
		text_add(&text, "y%d, ", i);
	for (int i = 0; i < chain->inputs.count; i++)
		text_add(&text, "x%d, ", i);
	for (int i = 0; i < chain->step->nodes.count; i++)
		if (has_scale_argument(chain->step->nodes.at[i]))
			text_add(&text, "scale%d, ", i);
	text.at[text.length - 1] = 0;
	return text.at;
}

static const char *chain_name(const Chain *chain)
{
	Text name = {.arena = chain->kernels->emit->arena};
	for (int i = 0; i < chain->step->nodes.count; i++)
		text_add(&name, "%s%s", i ? "_" : "", op_name(chain->step->nodes.at[i]->op));
	if (chain->rows)
		text_add(&name, "_rows");
	return name.at;
}

// "y0: real[rows, columns] = relu(add(x0, x1))"
static const char *formula(const Chain *chain, const Tensor *t)
{
	Arena *arena = chain->kernels->emit->arena;
	const Node *node = t->producer;
	if (node == chain->kernel)
		return "t0";
	if (!made_inside(chain->step, t)) {
		for (int i = 0; i < chain->inputs.count; i++)
			if (chain->inputs.at[i].tensor == t)
				return arena_printf(arena, "x%d", i);
	}
	Text text = {.arena = arena};
	text_add(&text, "%s(", op_name(node->op));
	for (int i = 0; i < node->ins; i++)
		text_add(&text, "%s%s", i ? ", " : "", formula(chain, node->in[i]));
	if (strchr(op_table[node->op].expression, ','))
		text_add(&text, "%s%.9g", node->ins ? ", " : "", node->attributes.scale);
	else if (has_scale_argument(node))
		text_add(&text, ", scale");
	text_add(&text, ")");
	return text.at;
}

static const char *comment_text(const Chain *chain)
{
	Text text = {.arena = chain->kernels->emit->arena};
	for (int i = 0; i < chain->outputs.count; i++)
		text_add(&text, "%s// y%d = %s", i ? "\n" : "", i, formula(chain, chain->outputs.at[i]));
	return text.at;
}

static const char *first_operands(const Chain *chain, const char *slot)
{
	Text text = {.arena = chain->kernels->emit->arena};
	for (int i = 0; i < chain->inputs.count; i++)
		text_add(&text, ", %s", place_of(chain->kernels->emit, chain->role, chain->inputs.at[i].tensor, slot));
	return text.at ? text.at : "";
}

static void find_chain(Chain *chain)
{
	chain->elements = local_elements(chain->kernels->emit->plan, chain->step->nodes.at[0]->out[0]) / pieces_written(chain->role);
	collect(chain);
	choose_columns(chain);
}

const char *elementwise_call(Kernels *kernels, const Role *role, const Step *step, const char *slot)
{
	const Emit *emit = kernels->emit;
	Chain chain = {.kernels = kernels, .role = role, .step = step, .indent = "\t"};
	find_chain(&chain);
	const char *real = c_type(emit->plan->graph->master);
	Kernel kernel = {.name = chain_name(&chain), .template_name = chain.rows ? "elementwise_rows" : "elementwise", .type = narrowest_type(&chain),
	                 .slots = {{"comment", comment_text(&chain)}, {"parameters", parameter_text(&chain, real, "")}, {"body", body_text(&chain)},
	                           {"arguments", argument_text(&chain)}, {"addresses", address_text(&chain)},
	                           {"kernel_parameters", parameter_text(&chain, real, "__restrict__ ")}},
	                 .slot_count = 6};
	Text call = {.arena = emit->arena};
	text_add(&call, "%s(", use_kernel(kernels, &kernel));
	for (int i = 0; i < chain.outputs.count; i++)
		text_add(&call, "%s, ", place_of(emit, role, chain.outputs.at[i], slot));
	for (int i = 0; i < chain.inputs.count; i++)
		text_add(&call, "%s, ", place_of(emit, role, chain.inputs.at[i].tensor, slot));
	for (int i = 0; i < step->nodes.count; i++)
		if (has_scale_argument(step->nodes.at[i]))
			text_add(&call, "%s, ", c_number(emit->arena, emit->plan->graph->master, step->nodes.at[i]->attributes.scale));
	if (chain.rows)
		text_add(&call, "%ld, %ld", chain.elements / chain.columns, chain.columns);
	else
		text_add(&call, "%ld", chain.elements);
	return call.at;
}

// ---- joined with a kernel

// `first`, then EACH0, EACH1 and so on, for each operand of the chain, with `between` between them.
static const char *listed(const Chain *chain, const char *first, const char *between, const char *each)
{
	Text text = {.arena = chain->kernels->emit->arena};
	text_add(&text, "%s", first);
	for (int i = 0; i < chain->inputs.count; i++)
		text_add(&text, "%s%s%d", text.length ? between : "", each, i);
	return text.at;
}

static const char *ended(const Chain *chain, const char *list)
{
	return arena_printf(chain->kernels->emit->arena, "%s,", list);
}

// "const auto held0 = mp_hold<width, MP_HELD>(team, x0 + first);", a line for each operand.
static const char *reads_text(const Chain *chain, const char *held)
{
	Text text = {.arena = chain->kernels->emit->arena};
	for (int i = 0; i < chain->inputs.count; i++)
		text_add(&text, "const auto held%d = mp_hold<width, %s>(team, x%d + first);\n", i, held, i);
	return text.at;
}

static const char *strips_text(const Chain *chain)
{
	Text text = {.arena = chain->kernels->emit->arena};
	for (int i = 0; i < chain->inputs.count; i++)
		text_add(&text, "const auto in%d = held%d.at(k, c);\n", i, i);
	return text.at;
}

// How a row is made, strip by strip.
static const char *row_text(const Chain *chain)
{
	Text text = {.arena = chain->kernels->emit->arena};
	text_add(&text, "%sconst auto row = mp_make<width>(team, x + first, [](auto strip, auto &to, %s) {\n", reads_text(chain, "MP_HELD"), listed(chain, "", ", ", "auto in"));
	text_add(&text, "\tfor (int e = 0; e < strip; e++) {\n");
	add_nodes_text(&text, chain);
	text_add(&text, "\t}\n}, %s);\n", listed(chain, "", ", ", "held"));
	return text.at;
}

// The chain makes x.
static void bind_front(Kernel *kernel, const Chain *chain, const char *real)
{
	Arena *arena = chain->kernels->emit->arena;
	const char *pointer = arena_printf(arena, "%s *x", real), *restricted = arena_printf(arena, "%s *__restrict__ x", real);
	Binding slots[] = {
		{"comment", arena_printf(arena, "// x is made here: %s", formula(chain, chain->outputs.at[0]))},
		{"parameters", ended(chain, listed(chain, pointer, ", ", arena_printf(arena, "const %s *x", real)))},
		{"kernel_parameters", ended(chain, listed(chain, restricted, ", ", arena_printf(arena, "const %s *__restrict__ x", real)))},
		{"arguments", ended(chain, listed(chain, "x", ", ", "x"))},
		{"addresses", listed(chain, "x", ", ", "x")},
		{"row", row_text(chain)},
	};
	kernel->slot_count = sizeof slots / sizeof *slots;
	memcpy(kernel->slots, slots, sizeof slots);
}

// The chain goes on from the first result.
static void bind_behind(Kernel *kernel, const Chain *chain, const char *real)
{
	Arena *arena = chain->kernels->emit->arena;
	Text result = {.arena = arena};
	add_nodes_text(&result, chain);
	Binding slots[] = {
		{"comment", arena_printf(arena, "// With t0 for what is dx above, dx = %s; x0 and so on have its shape", formula(chain, chain->outputs.at[0]))},
		{"parameters", ended(chain, listed(chain, "", ", ", arena_printf(arena, "const %s *x", real)))},
		{"kernel_parameters", ended(chain, listed(chain, "", ", ", arena_printf(arena, "const %s *__restrict__ x", real)))},
		{"arguments", ended(chain, listed(chain, "", ", ", "x"))},
		{"addresses", ended(chain, listed(chain, "", ", ", "x"))},
		{"reads", reads_text(chain, "held")},
		{"strips", strips_text(chain)},
		{"result", result.at},
	};
	kernel->slot_count = sizeof slots / sizeof *slots;
	memcpy(kernel->slots, slots, sizeof slots);
}

const char *joined_launcher(Kernels *kernels, const Role *role, const Step *step, const char *slot, Text *operands)
{
	const Node *node = kernel_of(step);
	bool behind = node == step->nodes.at[0];
	Chain chain = {.kernels = kernels, .role = role, .step = step, .kernel = node, .indent = behind ? "" : "\t\t"};
	find_chain(&chain);
	assert(!chain.rows && chain.outputs.count == 1 && "joined chains have no broadcasts and give one tensor");
	Kernel kernel = {.name = chain_name(&chain), .template_name = op_table[node->op].expression, .type = node->out[0]->type};
	(behind ? bind_behind : bind_front)(&kernel, &chain, c_type(kernel.type));
	text_add(operands, "%s", first_operands(&chain, slot));
	return use_kernel(kernels, &kernel);
}
