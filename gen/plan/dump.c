// dump.c: the plan as text, for tests and for --dump: buffers, functions with their steps, streams and events, action
// lists. What a pass has not made yet is left out.
#include "plan.h"

static const char *const stream_names[] = {"compute", "side", "dp", "tp", "pp"};

static void dump_step(const Role *role, const Function *function, int index, Text *out)
{
	const Step *step = &function->steps.at[index];
	static const char *const kinds[] = {"elementwise", "gemm", "conv", "attention", "chunks", "kernel", "copy", "collective", "transfer"};
	static const char *const when[] = {"", " first", " last", " evaluating"};
	text_add(out, "    %s %s on %s%s%s:", kinds[step->kind], step->name, stream_names[step->stream], when[step->when],
	         step->accumulate ? " accumulate" : "");
	for (int i = 0; i < step->nodes.count; i++)
		text_add(out, " %s", op_name(step->nodes.at[i]->op));
	if (step->parts)
		text_add(out, " rows of +%d of %d", step->part, step->parts);
	if (step->pieces)
		text_add(out, " piece %d of %d", step->piece + 1, step->pieces);
	for (int i = 0; i < step->messages.count; i++) {
		const Message *m = &step->messages.at[i];
		text_add(out, " %s %s %d[%d]", m->transfer->tensor->name, m->send ? "to" : "from", m->send ? m->transfer->to : m->transfer->from, m->argument);
	}
	for (int i = 0; i < step->waits.count; i++) {
		const Wait *wait = &step->waits.at[i];
		if (wait->alone < 0 || wait->alone == index)
			text_add(out, " wait %s[%d]", role->events.at[wait->event].name, wait->argument);
	}
	for (int i = 0; i < step->records.count; i++)
		text_add(out, " record %s[%d]", role->events.at[step->records.at[i].event].name, step->records.at[i].argument);
	text_add(out, "\n");
	for (int i = 0; i < step->accesses.count && step->accesses.at[i].buffer >= 0; i++) {
		const Access *access = &step->accesses.at[i];
		text_add(out, "%s%s %s[%d]", i ? " " : "      ", access->write ? "write" : "read", role->buffers.at[access->buffer].name, access->argument);
		if (access->rows.ranks)
			text_add(out, "+%d/%d.%d/%d", access->rows.rank, access->rows.ranks, access->rows.piece, access->rows.pieces);
	}
	if (step->accesses.count && step->accesses.at[0].buffer >= 0)
		text_add(out, "\n");
}

static void dump_actions(const char *name, const Actions *actions, Text *out)
{
	if (!actions->count)
		return;
	text_add(out, "  %s:", name);
	for (int i = 0; i < actions->count; i++)
		text_add(out, " %s", actions->at[i].name);
	text_add(out, "\n");
}

void dump_plan(const Plan *plan, Text *out)
{
	for (int s = 0; s < plan->stages; s++) {
		const Role *role = &plan->roles[s];
		text_add(out, "stage %d\n", s);
		for (int i = 0; i < role->buffers.count; i++) {
			const Buffer *b = &role->buffers.at[i];
			text_add(out, "  buffer %s %s %zu bytes x %d at %zu\n", b->name, class_names[b->class], b->bytes, b->slots, b->offset);
		}
		for (int i = 0; i < role->families.count; i++) {
			text_add(out, "  family %s%s from %d:", role->families.at[i].name, role->families.at[i].common ? " common" : "", role->families.at[i].base);
			for (int k = 0; k < role->families.at[i].count; k++)
				text_add(out, " %s", role->buffers.at[role->families.at[i].buffers[k]].name);
			text_add(out, "\n");
		}
		for (int i = 0; i < role->events.count; i++)
			text_add(out, "  event %s x %d\n", role->events.at[i].name, role->events.at[i].slots);
		for (int f = 0; f < role->functions.count; f++) {
			const Function *function = &role->functions.at[f];
			if (!function->steps.count)
				continue;
			text_add(out, "  %s\n", function->name);
			for (int i = 0; i < function->steps.count; i++)
				dump_step(role, function, i, out);
		}
		dump_actions("train", &role->train, out);
		dump_actions("evaluate", &role->evaluate, out);
		dump_actions("infer", &role->infer, out);
	}
}
