// beside.c: which matrix products leave multiprocessors to communication.
//
// A product takes every multiprocessor until it ends, so that a collective which could begin meanwhile waits for it; and one that
// begins beside a collective lacks a few, and takes a round of all others more for what these would have done. One that keeps to
// fewer takes a little longer, and both run. That pays where collectives go on beside a product for longer than it loses; those that
// only the last micro-batch has do so once, and the product loses in each. Messages between stages count for nothing here: the
// products of a pipeline are those of one device, to the bit.
#include "cost.h"
#include "depend.h"
#include "fuse.h"

// MP_NCCL_BLOCKS of runtime/mp.h, and what a product loses of its time that leaves so many, on the GPUs that are known.
enum { LEFT = 16 };
static const double lost = LEFT / 132.0;

// By step: seconds for which collectives that were issued before it go on when it begins.
static double *seconds_beside(const Plan *plan, const Function *function, bool last)
{
	Times times = predict_times(plan, function, last);
	double *beside = arena_alloc(plan->arena, (size_t)(function->steps.count + 1) * sizeof *beside), end = 0;
	for (int i = 0; i < function->steps.count; i++) {
		if (function->steps.at[i].kind == STEP_COLLECTIVE)
			end = times.finish[i] > end ? times.finish[i] : end;
		beside[i] = end > times.start[i] ? end - times.start[i] : 0;
	}
	return beside;
}

// How many of the steps that stand in one place of layers with equally many steps are to leave multiprocessors.
typedef struct {
	int leaving, all;
} Votes;

// Where the votes of each step are counted, by step: with those of the first layer that has as many steps as its own; -1: it is in no layer.
static int *find_places(const Plan *plan, const Function *function)
{
	int n = function->steps.count, *place = arena_alloc(plan->arena, (size_t)(n + 1) * sizeof *place);
	int *first_of = arena_alloc(plan->arena, (size_t)(n + 1) * sizeof *first_of); // by number of steps: where the first such layer begins, from 1
	for (int first = 0, end = 0; first < n; first = end) {
		int block = function->steps.at[first].block;
		while (end < n && function->steps.at[end].block == block)
			end++;
		int *like = &first_of[end - first];
		*like = *like ? *like : first + 1;
		for (int i = first; i < end; i++)
			place[i] = block >= 0 && plan->graph->blocks.at[block].unit ? *like - 1 + i - first : -1;
	}
	return place;
}

// Layers that are alike stay alike, and are emitted once: their products do what most of them should.
static void agree(const Plan *plan, Function *function)
{
	const int *place = find_places(plan, function);
	Votes *votes = arena_alloc(plan->arena, (size_t)(function->steps.count + 1) * sizeof *votes);
	for (int i = 0; i < function->steps.count; i++)
		if (place[i] >= 0) {
			votes[place[i]].leaving += function->steps.at[i].leaves > 0;
			votes[place[i]].all++;
		}
	for (int i = 0; i < function->steps.count; i++)
		if (place[i] >= 0 && function->steps.at[i].kind == STEP_GEMM)
			function->steps.at[i].leaves = 2 * votes[place[i]].leaving > votes[place[i]].all ? LEFT : 0;
}

void leave_multiprocessors(const Plan *plan, Function *function)
{
	if (!has_collectives(function))
		return;
	const double *always = seconds_beside(plan, function, false), *last = seconds_beside(plan, function, true);
	for (int i = 0; i < function->steps.count; i++) {
		Step *step = &function->steps.at[i];
		double mean = always[i] + (last[i] - always[i]) / plan->mesh[AXIS_MICRO];
		if (step->kind == STEP_GEMM)
			step->leaves = mean > lost * step_seconds(plan, step) ? LEFT : 0;
	}
	agree(plan, function);
}
