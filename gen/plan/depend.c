// depend.c: which steps of a function have to wait for which: one writes bytes that the other uses.
#include "depend.h"

#include "cost.h"

// A use of a root tensor, or of some of its rows, that later ones may have to wait for.
typedef struct {
	int step;
	bool write;
	Rows rows;
} Use;

typedef LIST(Use) Uses;

static void depend(const Plan *plan, Dependencies *on, int step, bool used)
{
	for (int i = 0; i < on->count; i++)
		if (on->at[i].step == step) {
			on->at[i].used |= used;
			return;
		}
	Dependency dependency = {step, used};
	list_add(plan->arena, on, dependency);
}

// Whether what a step writes is added to what is there, of which it uses nothing else.
static bool only_adds(const Step *step)
{
	return step->accumulate || (step->nodes.count && adds_onto(step->nodes.at[0]));
}

// A reader waits for the last writer of these rows; a writer, which may read too, for it and for all readers since.
static void add_dependencies(const Plan *plan, Dependencies *on, Uses *uses, const Access *access, const Step *step, int index)
{
	int kept = 0;
	for (int i = 0; i < uses->count; i++) {
		Use use = uses->at[i];
		if (use.step != index && (use.write || access->write) && rows_meet(&use.rows, &access->rows))
			depend(plan, on, use.step, use.write && (!access->write || !only_adds(step)));
		if (!access->write || use.step == index || (access->rows.ranks && !same_rows(&use.rows, &access->rows)))
			uses->at[kept++] = use;
	}
	uses->count = kept;
	Use use = {index, access->write, access->rows};
	list_add(plan->arena, uses, use);
}

Dependencies *find_dependencies(const Plan *plan, const Function *function)
{
	Dependencies *on = arena_alloc(plan->arena, (size_t)(function->steps.count + 1) * sizeof *on);
	Uses *uses = arena_alloc(plan->arena, (size_t)plan->graph->tensors.count * sizeof *uses);
	for (int i = 0; i < function->steps.count; i++) {
		const Step *step = &function->steps.at[i];
		for (int k = 0; k < step->accesses.count; k++)
			add_dependencies(plan, &on[i], &uses[step->accesses.at[k].tensor->id], &step->accesses.at[k], step, i);
	}
	return on;
}

bool is_communication(const Step *step)
{
	return step->kind == STEP_COLLECTIVE || step->kind == STEP_TRANSFER;
}

// Of one device, what runs one step after another: the chain, communication, the side stream.
static int queue_of(const Step *step)
{
	return is_communication(step) ? 1 : step->stream == STREAM_SIDE ? 2 : 0;
}

double function_seconds(const Plan *plan, const Function *function, bool once)
{
	const Dependencies *on = find_dependencies(plan, function);
	double *finish = arena_alloc(plan->arena, (size_t)(function->steps.count + 1) * sizeof *finish), free_at[3] = {0}, end = 0; // free_at: by queue
	for (int i = 0; i < function->steps.count; i++) {
		const Step *step = &function->steps.at[i];
		double *queue = &free_at[queue_of(step)], start = *queue;
		if (step->when == WHEN_EVALUATING || (step->when != WHEN_ALWAYS && !once))
			continue;
		for (int k = 0; k < on[i].count; k++)
			start = finish[on[i].at[k].step] > start ? finish[on[i].at[k].step] : start;
		finish[i] = *queue = start + step_seconds(plan, step);
		end = finish[i] > end ? finish[i] : end;
	}
	return end;
}
