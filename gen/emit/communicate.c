// communicate.c: collectives and messages, inlined where the step runs: NCCL calls, and the runtime's where copy engines may carry them.
#include <string.h>

#include "../plan/exchange.h"
#include "source.h"

// Buckets are contiguous: one call from the first gradient to the end of the last.
static long bucket_elements(const Emit *emit, const Role *role, const Step *step)
{
	const Buffer *first = &role->buffers.at[find_buffer(emit->plan, role, step->nodes.at[0]->in[0])], *last = first;
	for (int i = 1; i < step->nodes.count; i++) {
		const Buffer *next = &role->buffers.at[find_buffer(emit->plan, role, step->nodes.at[i]->in[0])];
		assert(next->offset == last->offset + aligned(last->bytes));
		last = next;
	}
	return (long)((last->offset + last->bytes - first->offset) / type_size(first->tensor->type));
}

static void emit_all_to_all(Text *out, const Emit *emit, const Role *role, const Node *node, const char *slot, const char *indent)
{
	int n = emit->plan->mesh[node->attributes.axis];
	const char *axis = axis_name(node->attributes.axis), *type = nccl_type(node->in[0]->type);
	long chunk = local_elements(emit->plan, node->in[0]) / n;
	text_add(out, "%sNCCL(ncclGroupStart());\n%sfor (int peer = 0; peer < %d; peer++) {\n", indent, indent, n);
	text_add(out, "%s\tNCCL(ncclSend(%s + peer * %ld, %ld, %s, peer, r->%s_comm, r->%s_stream));\n", indent,
	         place_of(emit, role, node->in[0], slot), chunk, chunk, type, axis, axis);
	text_add(out, "%s\tNCCL(ncclRecv(%s + peer * %ld, %ld, %s, peer, r->%s_comm, r->%s_stream));\n", indent,
	         place_of(emit, role, node->out[0], slot), chunk, chunk, type, axis, axis);
	text_add(out, "%s}\n%sNCCL(ncclGroupEnd());\n", indent, indent);
}

// To the device `part` ranks behind this one, and from the one as far before it.
static void emit_shift(Text *out, const Emit *emit, const Role *role, const Node *node, const char *from, const char *to, const char *indent)
{
	int n = emit->plan->mesh[node->attributes.axis], part = node->attributes.part;
	const char *axis = axis_name(node->attributes.axis), *type = nccl_type(node->in[0]->type);
	long count = local_elements(emit->plan, node->in[0]) / pieces_written(role);
	text_add(out, "%sNCCL(ncclGroupStart());\n", indent);
	text_add(out, "%sNCCL(ncclSend(%s, %ld, %s, (r->%s + %d) %% %d, r->%s_comm, r->%s_stream));\n", indent, from, count, type, axis, part, n, axis, axis);
	text_add(out, "%sNCCL(ncclRecv(%s, %ld, %s, (r->%s + %d) %% %d, r->%s_comm, r->%s_stream));\n", indent, to, count, type, axis, n - part, n, axis, axis);
	text_add(out, "%sNCCL(ncclGroupEnd());\n", indent);
}

// A piece of each device's rows, to all others: these do not lie side by side, as an all-gather has it.
static void emit_gather_of_piece(Text *out, const Emit *emit, const Step *step, const char *own, const char *all, const char *indent)
{
	const Node *node = step->nodes.at[0];
	int n = emit->plan->mesh[node->attributes.axis];
	long rows = local_elements(emit->plan, node->in[0]), count = rows / step->pieces, piece = step->piece * count;
	const char *axis = axis_name(node->attributes.axis), *type = nccl_type(node->in[0]->type), *more = piece ? arena_printf(emit->arena, " + %ldL", piece) : "";
	if (is_exchanged(emit->plan, step)) {
		text_add(out, "%smp_gather_rows(r, %s, %s%s, %ld, %ld, %s);\n", indent, axis_constant(node->attributes.axis), all, more, count, rows, mp_type(node->in[0]->type));
		return;
	}
	text_add(out, "%sNCCL(ncclGroupStart());\n", indent);
	for (int by = 1; by < n; by++) {
		text_add(out, "%sNCCL(ncclSend(%s, %ld, %s, (r->%s + %d) %% %d, r->%s_comm, r->%s_stream));\n", indent, own, count, type, axis, by, n, axis, axis);
		text_add(out, "%sNCCL(ncclRecv(%s + (r->%s + %d) %% %d * %ldL%s, %ld, %s, (r->%s + %d) %% %d, r->%s_comm, r->%s_stream));\n", indent, all, axis, n - by, n,
		         rows, more, count, type, axis, n - by, n, axis, axis);
	}
	text_add(out, "%sNCCL(ncclGroupEnd());\n", indent);
}

// By copy engines, where ranks reach each other's memory.
static void emit_exchange(Text *out, const Emit *emit, const Role *role, const Step *step, const char *from, const char *to, const char *indent)
{
	const Node *node = step->nodes.at[0];
	const char *axis = axis_constant(node->attributes.axis), *type = mp_type(node->in[0]->type);
	long given = local_elements(emit->plan, node->in[0]);
	switch (node->op) {
	case OP_ALL_REDUCE:
		text_add(out, "%smp_all_reduce(r, %s, %s, %ld, %s);\n", indent, axis, to, step->nodes.count > 1 ? bucket_elements(emit, role, step) : given, type);
		break;
	case OP_REDUCE_SCATTER:
		text_add(out, "%smp_reduce_scatter(r, %s, %s, %s, %ld, %s);\n", indent, axis, from, to, local_elements(emit->plan, node->out[0]), type);
		break;
	case OP_ALL_GATHER:
		text_add(out, "%smp_all_gather(r, %s, %s, %s, %ld, %s, %s);\n", indent, axis, from, to, given, type, is_own_part_read(role, node) ? "true" : "false");
		break;
	case OP_SHIFT: text_add(out, "%smp_shift(r, %s, %s, %s, %ld, %s, %d);\n", indent, axis, from, to, given / pieces_written(role), type, node->attributes.part); break;
	default: assert(!"copy engines carry out no other");
	}
}

void emit_collective(Text *out, const Emit *emit, const Role *role, const Step *step, const char *slot, const char *indent)
{
	const Node *node = step->nodes.at[0];
	const char *axis = axis_name(node->attributes.axis), *type = nccl_type(node->in[0]->type);
	const char *from = place_of(emit, role, node->in[0], slot), *to = (node->op == OP_ALL_GATHER ? whole_place : place_of)(emit, role, node->out[0], slot);
	if (node->op == OP_ALL_GATHER && step->pieces) {
		emit_gather_of_piece(out, emit, step, from, to, indent);
		return;
	}
	if (is_exchanged(emit->plan, step)) {
		emit_exchange(out, emit, role, step, from, to, indent);
		return;
	}
	switch (node->op) {
	case OP_ALL_REDUCE:
		text_add(out, "%sNCCL(ncclAllReduce(%s, %s, %ld, %s, ncclSum, r->%s_comm, r->%s));\n", indent, from, to,
		         step->nodes.count > 1 ? bucket_elements(emit, role, step) : local_elements(emit->plan, node->in[0]), type, axis, stream_name(step->stream));
		break;
	case OP_REDUCE_SCATTER:
		text_add(out, "%sNCCL(ncclReduceScatter(%s, %s, %ld, %s, ncclSum, r->%s_comm, r->%s));\n", indent, from, to,
		         local_elements(emit->plan, node->out[0]), type, axis, stream_name(step->stream));
		break;
	case OP_ALL_GATHER:
		text_add(out, "%sNCCL(ncclAllGather(%s, %s, %ld, %s, r->%s_comm, r->%s));\n", indent, from, to,
		         local_elements(emit->plan, node->in[0]), type, axis, stream_name(step->stream));
		break;
	case OP_SHIFT: emit_shift(out, emit, role, node, from, to, indent); break;
	case OP_ALL_TO_ALL: emit_all_to_all(out, emit, role, node, slot, indent); break;
	default: assert(!"a collective has its call here");
	}
}

// Where the other stage has a tensor in its arena: "123392", "123392 + f % 2 * 4096".
static const char *place_there(const Emit *emit, const Role *there, const Tensor *t, const char *slot)
{
	const Buffer *buffer = &there->buffers.at[find_buffer(emit->plan, there, t)];
	if (buffer->slots == 1 || !strcmp(slot, "0"))
		return arena_printf(emit->arena, "%zu", buffer->offset);
	return arena_printf(emit->arena, "%zu + %s %% %d * (size_t)%zu", buffer->offset, slot, buffer->slots, buffer->stride);
}

// A message outside of the micro-batch phases carries every micro-batch.
void emit_messages(Text *out, const Emit *emit, const Role *role, const Step *step, const char *const slots[2], const char *indent)
{
	const Message *first = &step->messages.at[0]; // no other group of the function carries the same tensor between the same stages
	const char *tensor = role->buffers.at[find_buffer(emit->plan, role, first->transfer->tensor)].name;
	const char *name = arena_printf(emit->arena, first->send ? "%s_to_%d" : "%s_from_%d", tensor, first->send ? first->transfer->to : first->transfer->from);
	text_add(out, "%sconst struct mp_message %s[] = {\n", indent, name);
	for (int i = 0; i < step->messages.count; i++) {
		const Message *message = &step->messages.at[i];
		const Transfer *transfer = message->transfer;
		const Buffer *buffer = &role->buffers.at[find_buffer(emit->plan, role, transfer->tensor)];
		bool micro = transfer->kind == TRANSFER_FORWARD || transfer->kind == TRANSFER_BACKWARD;
		const char *slot = slots[message->argument];
		text_add(out, "%s\t{%s, %ld, %s, %d, ", indent, place_of(emit, role, transfer->tensor, slot),
		         local_elements(emit->plan, transfer->tensor) * (buffer->whole && !micro ? buffer->slots : 1), mp_type(transfer->tensor->type),
		         message->send ? transfer->to : transfer->from);
		if (message->send)
			text_add(out, "true, %s},\n", place_there(emit, &emit->plan->roles[transfer->to], transfer->tensor, micro ? slot : "0"));
		else
			text_add(out, "false, 0},\n");
	}
	text_add(out, "%s};\n%smp_messages(r, %s, %d);\n", indent, indent, name, step->messages.count);
}
