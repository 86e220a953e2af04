// explain.c: the plan for people: plan.txt, and what --explain prints.
#include <string.h>

#include "cost.h"
#include "report.h"

enum { TIMELINE_WIDTH = 96 };

const char *schedule_name(const Plan *plan)
{
	if (!plan->graph->training)
		return "forward";
	return plan->schedule == SCHEDULE_GPIPE ? "GPipe" : "1F1B";
}

int world_size(const Plan *plan)
{
	return plan->mesh[AXIS_DP] * plan->mesh[AXIS_TP] * plan->mesh[AXIS_PP];
}

static void explain_summary(const Plan *plan, Text *out)
{
	const int *mesh = plan->mesh;
	text_add(out, "%s on %d device%s: dp=%d tp=%d pp=%d\n", plan->graph->training ? "training" : "inference", world_size(plan),
	         world_size(plan) == 1 ? "" : "s", mesh[AXIS_DP], mesh[AXIS_TP], mesh[AXIS_PP]);
	text_add(out, "batch %ld: %d micro-batch%s of %ld samples on each of %d replica%s\n", plan->graph->batch, mesh[AXIS_MICRO],
	         mesh[AXIS_MICRO] == 1 ? "" : "es", plan->graph->batch / mesh[AXIS_MICRO] / mesh[AXIS_DP], mesh[AXIS_DP], mesh[AXIS_DP] == 1 ? "" : "s");
	text_add(out, "compute %s, schedule %s\n", plan->tf32 ? "tf32" : type_name(plan->graph->real), schedule_name(plan));
	text_add(out, "predicted on %s: %.1f us a step, bubble %.1f %%\n", plan->device->name, plan->step_time * 1e6, plan->bubble * 100);
}

// Positions of a sample of token data; otherwise a sample counts as one.
static double tokens_of_sample(const Graph *graph)
{
	for (int i = 0; i < graph->inputs.count; i++)
		if (graph->inputs.at[i]->vocabulary)
			return (double)tensor_elements(graph->inputs.at[i]->tensor) / (double)graph->batch;
	return 1;
}

static void explain_kept(const Plan *plan, Text *out)
{
	static const char *const kinds[] = {"none", "selective", "full"};
	double tokens = tokens_of_sample(plan->graph), samples = (double)plan->graph->batch / plan->mesh[AXIS_MICRO] / plan->mesh[AXIS_DP];
	text_add(out, "  kept of a %s for the backward pass, on all stages together, by --recompute:", tokens > 1 ? "token" : "sample");
	for (int kind = RECOMPUTE_NONE; kind <= RECOMPUTE_FULL; kind++)
		text_add(out, "%s %s %.0f%s", kind ? "," : "", kinds[kind], plan->kept_bytes[kind] / samples / tokens, kind == (int)plan->recompute ? " (this plan)" : "");
	text_add(out, "\n");
}

static void explain_memory(const Plan *plan, Text *out)
{
	text_add(out, "\nbytes of one device, by stage\n");
	text_add(out, "  stage");
	for (int c = 0; c < CLASSES; c++)
		text_add(out, " %13s", class_names[c]);
	text_add(out, " %13s\n", "arena");
	for (int s = 0; s < plan->stages; s++) {
		const Role *role = &plan->roles[s];
		text_add(out, "  %5d", s);
		for (int c = 0; c < CLASSES; c++)
			text_add(out, " %13zu", role->bytes[c]);
		text_add(out, " %13zu\n", role->arena);
	}
	for (int s = 0; s < plan->stages; s++)
		if (plan->roles[s].shared)
			text_add(out, "  %zu bytes of gradients of stage %d lie where activations were, and count once in the arena\n", plan->roles[s].shared, s);
	if (plan->graph->training)
		explain_kept(plan, out);
	text_add(out, "  besides the arena: about %zu bytes for the CUDA context and libraries (measured)\n", plan->device->overhead);
}

static double seconds_of(const Plan *plan, int stage, bool backward)
{
	for (int i = 0; i < plan->timeline.count; i++)
		if (plan->timeline.at[i].stage == stage && plan->timeline.at[i].backward == backward)
			return plan->timeline.at[i].finish - plan->timeline.at[i].start;
	return 0;
}

static void explain_stages(const Plan *plan, Text *out)
{
	text_add(out, "\nstages%s\n", plan->cut_by_cost ? " (cut where the slowest stage is fastest: the spec's own cuts give another number)" : "");
	for (int s = 0; s < plan->stages; s++) {
		const Role *role = &plan->roles[s];
		text_add(out, "  %d:", s);
		for (int b = 0; b < plan->graph->blocks.count; b++)
			if (plan->stage_of[b] == s)
				text_add(out, " %s", plan->graph->blocks.at[b].name);
		text_add(out, "\n     forward %.1f us, backward %.1f us a micro-batch", seconds_of(plan, s, false) * 1e6, seconds_of(plan, s, true) * 1e6);
		if (plan->graph->training)
			text_add(out, "; saved micro-batches: %d", role->saved_slots);
		text_add(out, "\n");
	}
}

static void explain_timeline(const Plan *plan, Text *out)
{
	double end = 0;
	for (int i = 0; i < plan->timeline.count; i++)
		end = plan->timeline.at[i].finish > end ? plan->timeline.at[i].finish : end;
	text_add(out, "\nschedule: F forward, B backward, the number is the micro-batch; each column is %.2f us\n", end / TIMELINE_WIDTH * 1e6);
	for (int s = 0; s < plan->stages; s++) {
		char row[TIMELINE_WIDTH + 1];
		memset(row, ' ', TIMELINE_WIDTH);
		row[TIMELINE_WIDTH] = 0;
		for (int i = 0; i < plan->timeline.count; i++) {
			const TimelineEntry *e = &plan->timeline.at[i];
			if (e->stage != s || end <= 0)
				continue;
			int from = (int)(e->start / end * TIMELINE_WIDTH + 0.5), to = (int)(e->finish / end * TIMELINE_WIDTH + 0.5);
			const char *label = arena_printf(plan->arena, "%c%d", e->backward ? 'B' : 'F', e->microbatch);
			for (int c = from; c < to && c < TIMELINE_WIDTH; c++)
				row[c] = c - from < (int)strlen(label) ? label[c - from] : e->backward ? '=' : '-';
		}
		text_add(out, "  %2d |%s|\n", s, row);
	}
}

static void explain_links(const Plan *plan, Text *out)
{
	static const char *const axes[] = {[AXIS_DP] = "dp", [AXIS_TP] = "tp", [AXIS_PP] = "pp"};
	text_add(out, "\nbytes that one device sends in a step\n");
	for (int s = 0; s < plan->stages; s++) {
		Traffic traffic = find_traffic(plan, &plan->roles[s]);
		text_add(out, "  stage %d:", s);
		bool any = false;
		for (int axis = AXIS_DP; axis < ALL_AXES; axis++)
			if (traffic.calls[axis] > 0) {
				text_add(out, "%s %s %.0f in %.0f call%s", any ? "," : "", axes[axis], traffic.bytes[axis], traffic.calls[axis], traffic.calls[axis] == 1 ? "" : "s");
				any = true;
			}
		text_add(out, "%s\n", any ? "" : " none");
	}
}

void explain_plan(const Plan *plan, Text *out)
{
	explain_summary(plan, out);
	explain_memory(plan, out);
	explain_stages(plan, out);
	explain_timeline(plan, out);
	explain_links(plan, out);
}
