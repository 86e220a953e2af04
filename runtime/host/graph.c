// The host's streams are queues in memory: enqueueing an operation costs no more than replaying one would, so steps are
// not captured.
#include "device.h"
#include "mp_run.h"

struct mp_graphs *mp_graphs_new(void) { return NULL; }

// Where mp_run leaves steps unmarked; not where it would run the next step before the first is reported, and its time with that one's.
bool mp_graphs_ready(struct mp_graphs *graphs, const struct mp_rank *r, const struct mp_schedule *schedule, int input_slot)
{
	(void)graphs, (void)schedule, (void)input_slot;
	return !mp_worth_marking(r) && host_device()->mode != MODE_EAGER;
}

bool mp_graphs_run(struct mp_graphs *graphs, struct mp_rank *r, const struct mp_schedule *schedule)
{
	(void)graphs, (void)r, (void)schedule;
	return false;
}

void mp_graphs_free(struct mp_graphs *graphs, struct mp_rank *r)
{
	(void)graphs, (void)r;
}
