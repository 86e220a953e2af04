// The micro-batch scheduler: a schedule is a table of actions in the order in which a rank enqueues them. The order is
// decided when the program is generated, so running it is a loop. Everything is asynchronous: the table is enqueued
// long before the device has done it.
#include "engines.h"
#include "mp_run.h"

static void enqueue_actions(struct mp_rank *r, const struct mp_schedule *schedule)
{
	bool marked = mp_worth_marking(r);

	if (marked)
		mp_marks_start(r->marks, schedule);
	for (int i = 0; i < schedule->count; i++) {
		const struct mp_action *action = &schedule->actions[i];
		mp_watch_action(r->watch, action->name);
		action->run(r, action->first, action->second);
		if (marked)
			mp_mark(r->marks, i);
	}
}

void mp_run(struct mp_rank *r, const struct mp_schedule *schedule)
{
	mp_watch_begin(r->watch);
	for (enum mp_axis axis = MP_DP; axis < MP_AXES; axis++)
		mp_engines_begin(r->engines[axis]);
	if (r->trace || !mp_graphs_run(r->graphs, r, schedule))
		enqueue_actions(r, schedule);
	CUDA(cudaEventRecord(r->loop->ended[r->input_slot], r->compute));
}
