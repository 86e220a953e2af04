// steps.c: the body of an emitted function: for each step its waits, a comment that names the model's node and shapes,
// the call, and the events recorded behind it.
#include <string.h>

#include "../plan/cost.h"
#include "source.h"

// The names of an emitted function's two micro-batches: f and b in functions that send or receive, mb elsewhere.
typedef struct {
	const char *slot[2];
} Arguments;

static const char *letter(const Function *function, int argument)
{
	for (int i = 0; i < function->steps.count; i++)
		for (int k = 0; k < function->steps.at[i].messages.count; k++) {
			const Message *message = &function->steps.at[i].messages.at[k];
			if (message->argument == argument)
				return message->transfer->kind == TRANSFER_BACKWARD ? "b" : "f";
		}
	return NULL;
}

static Arguments arguments_of(Arena *arena, const Function *function)
{
	Arguments arguments = {{"0", "0"}};
	if (function->kind == FUNCTION_FORWARD || function->kind == FUNCTION_BACKWARD)
		arguments.slot[0] = "mb";
	if (function->kind != FUNCTION_TRANSFER)
		return arguments;
	const char *first = letter(function, 0), *second = letter(function, 1);
	arguments.slot[0] = first ? first : "f";
	if (second)
		arguments.slot[1] = !strcmp(second, arguments.slot[0]) ? arena_printf(arena, "next_%s", second) : second;
	return arguments;
}

// In a loop of equal layers, what stands in this place in each of them.
static const char *shown_name(const Emit *emit, const Role *role, const Tensor *t)
{
	int buffer = find_buffer(emit->plan, role, t), family = role->inside && buffer >= 0 ? role->inside->family_of[buffer] : -1;
	return c_comment(emit->arena, family >= 0 ? role->families.at[family].name : t->name);
}

static const char *name_and_shape(const Emit *emit, const Role *role, const Tensor *t)
{
	return arena_printf(emit->arena, "%s %s", shown_name(emit, role, t), local_shape(emit, t));
}

// "conv1.conv2d: conv2d, image f32[4,28,28,1] and conv1.weight f32[16,3,3,1] -> f32[4,28,28,16]"
static void comment_conv(Text *out, const Emit *emit, const Role *role, const Step *step)
{
	const Node *node = step->nodes.at[0];
	text_add(out, "%s%s, %s and %s", step->accumulate ? "+= " : "", op_name(node->op), name_and_shape(emit, role, node->in[0]), name_and_shape(emit, role, node->in[1]));
	for (int i = 1; i < step->nodes.count; i++)
		text_add(out, " + %s", shown_name(emit, role, step->nodes.at[i]->in[1]));
	text_add(out, " -> %s", local_shape(emit, node->out[0]));
}

// The left operand of a product or convolution; of a device's own rows what it has before tp gathers them.
static const Tensor *left_tensor(const Step *step)
{
	const Tensor *left = step->nodes.at[0]->in[0];
	return step->parts && !step->part ? left->producer->in[0] : left;
}

// "fc1.relu: image f32[16,784] . fc1.weight f32[1000,784]^T + fc1.bias, relu -> f32[16,1000]"
static void comment_gemm(Text *out, const Emit *emit, const Role *role, const Step *step)
{
	const Node *node = step->nodes.at[0];
	Transpose transpose = node->attributes.transpose;
	long parts = step->parts ? step->parts : node->attributes.parts;
	int part = step->parts ? step->part : node->attributes.part;
	text_add(out, "%s%s%s %s %s%s", step->accumulate ? "+= " : "", name_and_shape(emit, role, left_tensor(step)), transpose == MATMUL_TN ? "^T" : "", ".",
	         name_and_shape(emit, role, node->in[1]), transpose == MATMUL_NT ? "^T" : "");
	for (int i = 1; i < step->nodes.count; i++) {
		const Node *tail = step->nodes.at[i];
		if (tail->op == OP_ADD)
			text_add(out, " + %s", shown_name(emit, role, tail->in[1]));
		else if (tail->ins > 1)
			text_add(out, ", %s at %s", op_name(tail->op), shown_name(emit, role, tail->in[1]));
		else if (role->gemms.at[step->call].kept)
			text_add(out, ", %s of %s", op_name(tail->op), shown_name(emit, role, tail->in[0]));
		else
			text_add(out, ", %s", op_name(tail->op));
	}
	text_add(out, " -> %s", local_shape(emit, step->nodes.at[step->nodes.count - 1]->out[0]));
	if (parts)
		text_add(out, part ? ", the rows of tp + %d" : ", the own rows", part);
}

// "attn.attention: attention, attn.qkv f32[64,4,2,3,16] -> f32[64,4,2,1,16]"
static void comment_attention(Text *out, const Emit *emit, const Role *role, const Step *step)
{
	const Node *node = step->nodes.at[0];
	text_add(out, "%s, %s -> %s", op_name(node->op), name_and_shape(emit, role, node->in[0]), local_shape(emit, node->out[0]));
}

// "loss.rows: linear_cross_entropy, norm f32[128,64] . head.weight f32[512,64]^T in 4 chunks -> losses f32[128], gradients f32[128,64] and f32[512,64]"
static void comment_chunks(Text *out, const Emit *emit, const Role *role, const Step *step)
{
	const Node *node = step->nodes.at[0];
	text_add(out, "%s, %s . %s^T in %ld chunks -> losses %s, gradients %s and %s%s", op_name(node->op), name_and_shape(emit, role, node->in[0]),
	         name_and_shape(emit, role, node->in[1]), node->attributes.chunks, local_shape(emit, node->out[CHUNKED_LOSSES]),
	         local_shape(emit, node->out[CHUNKED_X_GRAD]), step->accumulate ? "+= " : "", local_shape(emit, node->out[CHUNKED_WEIGHT_GRAD]));
}

// "update: adamw, 148 parameters of 124475904 elements"
static void comment_updates(Text *out, const Emit *emit, const Step *step)
{
	long elements = 0;
	for (int i = 0; i < step->nodes.count; i++)
		elements += local_elements(emit->plan, step->nodes.at[i]->in[0]);
	text_add(out, "%s, %d parameter%s of %ld elements", op_name(step->nodes.at[0]->op), step->nodes.count, step->nodes.count > 1 ? "s" : "", elements);
}

// "fc1.weight.grad f32[1000,784], fc1.bias.grad f32[1000]: one bucket", "146, f32[149504] in all: one bucket"
static void comment_bucket(Text *out, const Emit *emit, const Role *role, const Step *step)
{
	enum { NAMED = 16 };
	long elements = 0;
	for (int i = 0; i < step->nodes.count; i++) {
		const Tensor *t = step->nodes.at[i]->in[0];
		elements += local_elements(emit->plan, t);
		if (step->nodes.count <= NAMED)
			text_add(out, "%s%s", i ? ", " : "", name_and_shape(emit, role, t));
	}
	if (step->nodes.count > NAMED)
		text_add(out, "%d, %s[%ld] in all", step->nodes.count, type_name(step->nodes.at[0]->in[0]->type), elements);
	text_add(out, ": one bucket");
}

static void comment_nodes(Text *out, const Emit *emit, const Role *role, const Step *step)
{
	if (step->kind != STEP_TRANSFER && step->kind != STEP_COPY)
		text_add(out, "%s: ", c_comment(emit->arena, step->name));
	switch (step->kind) {
	case STEP_GEMM: comment_gemm(out, emit, role, step); break;
	case STEP_CONV: comment_conv(out, emit, role, step); break;
	case STEP_ATTENTION: comment_attention(out, emit, role, step); break;
	case STEP_CHUNKS: comment_chunks(out, emit, role, step); break;
	case STEP_COPY:
		for (int i = 0; i < step->nodes.count; i++)
			text_add(out, "%s%s", i ? ", " : "", name_and_shape(emit, role, copied_tensor(step->nodes.at[i])));
		text_add(out, " %s the host", step->nodes.at[0]->outs ? "from" : "to");
		break;
	case STEP_TRANSFER:
		for (int i = 0; i < step->messages.count; i++) {
			const Message *m = &step->messages.at[i];
			text_add(out, "%s%s %s stage %d", i ? ", " : "", name_and_shape(emit, role, m->transfer->tensor), m->send ? "to" : "from",
			         m->send ? m->transfer->to : m->transfer->from);
		}
		break;
	default:
		if (is_update(step->nodes.at[0])) {
			comment_updates(out, emit, step);
			break;
		}
		if (step->kind == STEP_COLLECTIVE && step->nodes.count > 1) {
			comment_bucket(out, emit, role, step);
			break;
		}
		for (int i = 0; i < step->nodes.count; i++) {
			const Node *node = step->nodes.at[i];
			text_add(out, "%s%s%s %s", i ? ", " : "", adds_onto(node) ? "+= " : "", op_name(node->op), local_shape(emit, node->outs ? node->out[0] : node->in[0]));
		}
	}
}

static void comment_step(Text *out, const Emit *emit, const Role *role, const Step *step)
{
	comment_nodes(out, emit, role, step);
	if (step->pieces)
		text_add(out, ", piece %d of %d", step->piece + 1, step->pieces);
}

static const char *event_expression(const Emit *emit, const Event *event, const char *slot)
{
	if (event->slots == 1)
		return arena_printf(emit->arena, "r->event[%s]", event->name);
	return arena_printf(emit->arena, "r->event[%s + %s %% %d]", event->name, slot, event->slots);
}

static const char *bias_of(const Emit *emit, const Role *role, const Step *step, const char *slot)
{
	for (int i = 1; i < step->nodes.count; i++)
		if (step->nodes.at[i]->op == OP_ADD)
			return place_of(emit, role, step->nodes.at[i]->in[1], slot);
	return "NULL";
}

// A matrix product or convolution with its operands and, where it has one, the bias.
static void emit_library_call(Text *out, Kernels *kernels, const Role *role, const Step *step, const char *slot, const char *indent)
{
	const Emit *emit = kernels->emit;
	const Node *node = step->nodes.at[0];
	const Node *last = step->nodes.at[step->nodes.count - 1];
	const char *a = place_of(emit, role, left_tensor(step), slot), *b = place_of(emit, role, node->in[1], slot), *bias = bias_of(emit, role, step, slot);
	const char *result = place_of(emit, role, last->out[0], slot), *stream = stream_name(step->stream);
	const char *accumulate = step->accumulate ? arena_printf(emit->arena, "%s > 0", slot) : "false";
	const Gemm *gemm = step->kind == STEP_GEMM ? &role->gemms.at[step->call] : NULL;
	const char *kept = gemm && gemm->kept ? place_of(emit, role, last->in[gemm->activation->ins - 1], slot) : NULL;
	if (kept && gemm->activation->ins > 1)
		text_add(out, "%smp_gemm_grad(r, &gemms[%s], %s, %s, %s, %s, r->%s);\n", indent, gemm->constant, a, b, kept, result, stream);
	else if (kept)
		text_add(out, "%smp_gemm_keep(r, &gemms[%s], %s, %s, %s, %s, %s, r->%s);\n", indent, gemm->constant, a, b, bias, kept, result, stream);
	else
		text_add(out, "%s%s(r, &%s[%s], %s, %s, %s, %s, %s, r->%s);\n", indent, gemm ? "mp_gemm" : "mp_conv", gemm ? "gemms" : "convs",
		         gemm ? gemm->constant : role->convs.at[step->call].constant, a, b, bias, result, accumulate, stream);
}

// "{random_key(r), 0x…u, sample, head}", what dropout draws from; "{}" without.
static const char *dropped_of(const Emit *emit, const Role *role, const Node *node, const char *slot)
{
	const Tensor *o = node->op == OP_ATTENTION ? node->out[0] : node->in[2]; // [T,B,G,q,hs]
	if (node->attributes.scale == 0)
		return "{}";
	return arena_printf(emit->arena, "{%s, %s, %s, %s}", place_of(emit, role, node->in[node->ins - 1], slot),
	                    layer_number(emit, role, node->attributes.layer), first_index(emit, o, 1, 1, slot), first_index(emit, o, 2, o->shape[3], slot));
}

// Attention gives o and lse; its gradient reads both. The random key is no operand of its own.
static void emit_attention(Text *out, const Emit *emit, const Role *role, const Step *step, const char *slot, const char *indent)
{
	const Node *node = step->nodes.at[0];
	text_add(out, "%s%s(r, &attentions[%s]", indent, node->op == OP_ATTENTION ? "mp_attention" : "mp_attention_grad", role->attentions.at[step->call].constant);
	for (int i = 0; i < (node->op == OP_ATTENTION ? 1 : 4); i++)
		text_add(out, ", %s", place_of(emit, role, node->in[i], slot));
	for (int i = 0; i < node->outs; i++)
		text_add(out, ", %s", place_of(emit, role, node->out[i], slot));
	text_add(out, ", %s, r->%s);\n", dropped_of(emit, role, node, slot), stream_name(step->stream));
}

static int result_index(const Role *role, const Node *sink)
{
	int index = 0;
	for (int i = 0; i < role->nodes[PHASE_EPILOGUE].count; i++) {
		if (role->nodes[PHASE_EPILOGUE].at[i] == sink)
			return index;
		index += role->nodes[PHASE_EPILOGUE].at[i]->op == sink->op;
	}
	assert(!"a sink belongs to its role");
	return 0;
}

static int input_index(const Role *role, const Node *input)
{
	int index = 0;
	for (int i = 0; role->nodes[PHASE_PROLOGUE].at[i] != input; i++)
		index += role->nodes[PHASE_PROLOGUE].at[i]->op == OP_INPUT && role->nodes[PHASE_PROLOGUE].at[i]->attributes.input->kind == INPUT_DATA;
	return index;
}

// The host's side of a copy.
static const char *host_place(const Emit *emit, const Role *role, const Node *node)
{
	if (node->op == OP_METRIC)
		return arena_printf(emit->arena, "(%s *)r->metrics + %d", c_type(node->in[0]->type), result_index(role, node));
	if (node->op == OP_OUTPUT)
		return arena_printf(emit->arena, "r->output[%d]", result_index(role, node));
	switch (node->attributes.input->kind) {
	case INPUT_LEARNING_RATE: return "r->learning_rate";
	case INPUT_STEP: return "r->step_number";
	case INPUT_RANDOM_KEY: return "r->random_key";
	default: return arena_printf(emit->arena, "r->input[%d]", input_index(role, node));
	}
}

// "{image(r), r->input[0], 200704}" with commas between the three.
static const char *copy_operands(const Emit *emit, const Role *role, const Node *node)
{
	const Tensor *t = copied_tensor(node);
	const Buffer *buffer = &role->buffers.at[find_buffer(emit->plan, role, t)];
	const char *device = place_of(emit, role, t, "0"), *host = host_place(emit, role, node);
	return arena_printf(emit->arena, "%s, %s, %zu", node->outs ? device : host, node->outs ? host : device, buffer->bytes * (size_t)buffer->slots);
}

static void emit_copy(Text *out, Kernels *kernels, const Role *role, const Step *step, const char *indent)
{
	const Emit *emit = kernels->emit;
	const Node *first = step->nodes.at[0];
	if (!is_small_copy(emit->plan, first)) {
		text_add(out, "%sCUDA(cudaMemcpyAsync(%s, %s, r->%s));\n", indent, copy_operands(emit, role, first),
		         first->outs ? "cudaMemcpyHostToDevice" : "cudaMemcpyDeviceToHost", stream_name(step->stream));
		return;
	}
	Kernel kernel = {.name = "copy_all", .template_name = "copy_all", .type = emit->plan->graph->master};
	text_add(out, "%s%s({{", indent, use_kernel(kernels, &kernel));
	for (int i = 0; i < step->nodes.count; i++)
		text_add(out, "%s{%s}", i ? ", " : "", copy_operands(emit, role, step->nodes.at[i]));
	text_add(out, "}}, r->%s);\n", stream_name(step->stream));
}

static void emit_call(Text *out, Kernels *kernels, const Role *role, const Function *function, const Step *step, const Arguments *arguments,
                      const char *indent)
{
	const char *slot = arguments->slot[0];
	switch (step->kind) {
	case STEP_GEMM: case STEP_CONV: emit_library_call(out, kernels, role, step, slot, indent); break;
	case STEP_ATTENTION: emit_attention(out, kernels->emit, role, step, slot, indent); break;
	case STEP_CHUNKS: emit_chunks(out, kernels, role, step, slot, indent); break;
	case STEP_ELEMENTWISE:
		text_add(out, "%s%s, r->%s);\n", indent, elementwise_call(kernels, role, step, slot), stream_name(step->stream));
		break;
	case STEP_KERNEL:
		text_add(out, "%s%s, r->%s);\n", indent, kernel_call(kernels, role, function, step, slot), stream_name(step->stream));
		break;
	case STEP_COPY: emit_copy(out, kernels, role, step, indent); break;
	case STEP_COLLECTIVE: emit_collective(out, kernels->emit, role, step, slot, indent); break;
	case STEP_TRANSFER: emit_messages(out, kernels->emit, role, step, arguments->slot, indent); break;
	}
}

// In a trace messages have the name of their function, where it does nothing else, and copies say what they copy.
static const char *traced_name(const Emit *emit, const Function *function, const Step *step)
{
	if (step->kind == STEP_TRANSFER && function->kind == FUNCTION_TRANSFER)
		return c_string(emit->arena, function->name);
	if (step->kind == STEP_COPY)
		return c_string(emit->arena, copied_tensor(step->nodes.at[0])->name);
	return c_string(emit->arena, step->name);
}

// The number of the layer that has a step, in the loop around it: as emit_loop counts.
static int layer_of(const Loop *loop, int step)
{
	int turn = (step - loop->first) / loop->steps;
	return loop->base + (loop->descending ? loop->count - 1 - turn : turn);
}

static void emit_step(Text *out, Kernels *kernels, Role *role, const Function *function, const Step *step, const Arguments *arguments)
{
	const Emit *emit = kernels->emit;
	const char *indent = step->when == WHEN_ALWAYS ? "\t" : "\t\t";
	text_add(out, "%s// ", indent);
	comment_step(out, emit, role, step);
	text_add(out, "\n");
	for (int i = 0; i < step->waits.count; i++) {
		const Wait *wait = &step->waits.at[i];
		if (wait->alone >= 0)
			text_add(out, "%sif (layer == %d)\n\t", indent, layer_of(role->inside, wait->alone));
		text_add(out, "%sCUDA(cudaStreamWaitEvent(r->%s, %s, 0));\n", indent, stream_name(step->stream),
		         event_expression(emit, &role->events.at[wait->event], arguments->slot[wait->argument]));
	}
	if (emit->trace_steps)
		text_add(out, "%smp_step_begin(r, %s, %.1f, r->%s);\n", indent, traced_name(emit, function, step), 1e6 * step_seconds(emit->plan, step),
		         stream_name(step->stream));
	role->writing = step;
	emit_call(out, kernels, role, function, step, arguments, indent);
	role->writing = NULL;
	if (emit->trace_steps)
		text_add(out, "%smp_step_end(r, r->%s);\n", indent, stream_name(step->stream));
	for (int i = 0; i < step->records.count; i++) {
		const Event *event = &role->events.at[step->records.at[i].event];
		text_add(out, "%sCUDA(cudaEventRecord(%s, r->%s));\n", indent, event_expression(emit, event, arguments->slot[step->records.at[i].argument]),
		         stream_name(step->stream));
	}
}

// Steps under one condition share its block.
static void change_condition(Text *out, const Plan *plan, const Arguments *arguments, When from, When to)
{
	if (from == to)
		return;
	if (from != WHEN_ALWAYS)
		text_add(out, "\t}\n");
	if (to == WHEN_EVALUATING)
		text_add(out, "\tif (r->evaluating) {\n");
	if (to == WHEN_FIRST)
		text_add(out, "\tif (%s == 0) { // the first micro-batch: the others compute with the same\n", arguments->slot[0]);
	if (to == WHEN_LAST)
		text_add(out, "\tif (%s == %d) { // the last micro-batch: these gradients are complete\n", arguments->slot[0], plan->mesh[AXIS_MICRO] - 1);
}

// A step forks from the compute stream and joins into it again: steps do not overlap, and one can be captured whole.
static void emit_fork_or_join(Text *out, const Role *role, bool fork)
{
	static const char *const done[] = {"", "SIDE_STREAM_DONE", "DP_STREAM_DONE", "TP_STREAM_DONE", "PP_STREAM_DONE"};
	bool recorded = false;
	for (int s = STREAM_COMPUTE + 1; s < STREAMS; s++) {
		if (!role->uses[s])
			continue;
		if (fork && !recorded)
			text_add(out, "\tCUDA(cudaEventRecord(r->event[STEP_BEGUN], r->compute));\n");
		recorded = true;
		if (fork) {
			text_add(out, "\tCUDA(cudaStreamWaitEvent(r->%s, r->event[STEP_BEGUN], 0));\n", stream_name(s));
		} else {
			text_add(out, "\tCUDA(cudaEventRecord(r->event[%s], r->%s));\n", done[s], stream_name(s));
			text_add(out, "\tCUDA(cudaStreamWaitEvent(r->compute, r->event[%s], 0));\n", done[s]);
		}
	}
}

// Steps [first, end) as the body of a function.
static void emit_body(Text *out, Kernels *kernels, Role *role, const Function *function, int first, int end, const Arguments *arguments)
{
	When when = WHEN_ALWAYS;
	for (int i = first; i < end; i++) {
		const Step *step = &function->steps.at[i];
		change_condition(out, kernels->emit->plan, arguments, when, step->when);
		when = step->when;
		emit_step(out, kernels, role, function, step, arguments);
	}
	change_condition(out, kernels->emit->plan, arguments, when, WHEN_ALWAYS);
}

static const char *layer_function(const Emit *emit, const Function *function, const Loop *loop)
{
	Text name = {.arena = emit->arena};
	text_add(&name, "%s_", function->name);
	for (const char *c = loop->name; *c; c++)
		text_add(&name, "%c", (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') ? *c : '_');
	for (int i = 0; &function->loops.at[i] != loop; i++)
		if (!strcmp(function->loops.at[i].name, loop->name))
			text_add(&name, "_%d", i + 2);
	return name.at;
}

// One layer of a loop, with its number.
static void emit_layer(Text *out, Kernels *kernels, Role *role, const Function *function, const Loop *loop, const Arguments *arguments)
{
	bool micro = strcmp(arguments->slot[0], "0");
	role->inside = loop;
	text_add(out, "static void %s(struct mp_rank *r, %s%s%sint layer)\n{\n", layer_function(kernels->emit, function, loop), micro ? "int " : "",
	         micro ? arguments->slot[0] : "", micro ? ", " : "");
	emit_body(out, kernels, role, function, loop->first, loop->first + loop->steps, arguments);
	text_add(out, "}\n\n");
	role->inside = NULL;
}

static void emit_loop(Text *out, const Emit *emit, const Function *function, const Loop *loop, const Arguments *arguments)
{
	bool micro = strcmp(arguments->slot[0], "0");
	if (loop->descending)
		text_add(out, "\tfor (int layer = %d; layer >= %d; layer--)\n", loop->base + loop->count - 1, loop->base);
	else
		text_add(out, "\tfor (int layer = %d; layer < %d; layer++)\n", loop->base, loop->base + loop->count);
	text_add(out, "\t\t%s(r, %s%slayer);\n", layer_function(emit, function, loop), micro ? arguments->slot[0] : "", micro ? ", " : "");
}

void emit_steps(Text *out, Kernels *kernels, Role *role, const Function *function)
{
	Arguments arguments = arguments_of(kernels->emit->arena, function);
	bool first = strcmp(arguments.slot[0], "0"), second = strcmp(arguments.slot[1], "0"), edge = function->kind == FUNCTION_BEGIN || function->kind == FUNCTION_END;
	for (int i = 0; i < function->loops.count; i++)
		emit_layer(out, kernels, role, function, &function->loops.at[i], &arguments);
	text_add(out, "static void %s(struct mp_rank *r, int%s%s, int%s%s)\n{\n", function->name, first ? " " : "", first ? arguments.slot[0] : "",
	         second ? " " : "", second ? arguments.slot[1] : "");
	if (edge)
		emit_fork_or_join(out, role, function->kind == FUNCTION_BEGIN);
	int at = 0;
	for (int i = 0; i < function->loops.count; i++) {
		const Loop *loop = &function->loops.at[i];
		emit_body(out, kernels, role, function, at, loop->first, &arguments);
		emit_loop(out, kernels->emit, function, loop, &arguments);
		at = loop->first + loop->steps * loop->count;
	}
	emit_body(out, kernels, role, function, at, function->steps.count, &arguments);
	text_add(out, "}\n\n");
}
