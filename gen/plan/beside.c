// beside.c: which matrix products leave multiprocessors to communication.
//
// A product takes every multiprocessor until it ends, so that a collective which could begin meanwhile waits for it, and nothing
// of it is hidden. One that keeps to fewer takes a little longer, and both run. That pays where the collectives over tp that are
// under way beside a product would wait longer than it loses; those over dp have the whole backward pass to end in.
#include "depend.h"
#include "fuse.h"

// What a product loses, of its time: MP_NCCL_BLOCKS of the multiprocessors of the GPUs that are known.
static const double lost = 16.0 / 132;

static bool is_over_tp(const Step *step)
{
	return step->kind == STEP_COLLECTIVE && step->stream == STREAM_TP;
}

// The first collective over tp that is under way when a step begins, seen from computation; the step itself: there is none.
static int first_under_way(const Function *function, const int *ends, int step)
{
	int first = 0;
	while (first < step && !(is_over_tp(&function->steps.at[first]) && ends[first] > step))
		first++;
	return first;
}

// Seconds for which collectives over tp go on when a step begins, one behind the other, from when the first of them was issued.
static double seconds_left(const Plan *plan, const Function *function, const int *ends, int step)
{
	double now = 0, busy = 0;
	for (int i = first_under_way(function, ends, step); i < step; i++) {
		const Step *other = &function->steps.at[i];
		if (is_over_tp(other))
			busy = (busy > now ? busy : now) + step_seconds(plan, other);
		else if (!is_communication(other) && other->when == WHEN_ALWAYS)
			now += step_seconds(plan, other);
	}
	return busy - now;
}

void leave_multiprocessors(const Plan *plan, Function *function)
{
	const int *ends = find_ends(plan, function);
	for (int i = 0; i < function->steps.count; i++) {
		Step *step = &function->steps.at[i];
		if (step->kind == STEP_GEMM)
			step->beside = seconds_left(plan, function, ends, i) > lost * step_seconds(plan, step);
	}
}
