// A whole step as one CUDA graph: the host then launches once where it launched every kernel, which is most of the time
// of a small model's step. A step is closed (it forks from the compute stream and joins into it), and all that changes
// from step to step is read from memory, so what was captured once is right for ever; but for the pinned buffers of the
// samples, which alternate: each set of them has its own graph.
//
// The first run of a schedule is not captured: libraries make their last preparations then. While capturing, the rank
// has events that were never recorded: those that this step does not record before it waits for them belong to the step
// before, which the join has ended already, and a graph may not depend on what lies outside of it.
#include "mp_run.h"

#include <stdlib.h>

enum { KEPT = 4 };              // graphs: two buffers of samples each for training and for evaluation or inference

struct graph {
	const struct mp_schedule *schedule;
	int input_slot;         // which of the loader's buffers it copies from: alike on every rank
	cudaEvent_t *event;
	cudaGraphExec_t run;    // NULL: seen, not captured yet
};

struct mp_graphs {
	struct graph kept[KEPT];
	int count;
};

struct mp_graphs *mp_graphs_new(void)
{
	return mp_allocate(sizeof(struct mp_graphs));
}

static cudaEvent_t *fresh_events(int count)
{
	cudaEvent_t *event = mp_allocate((size_t)count * sizeof *event);
	for (int i = 0; i < count; i++)
		CUDA(cudaEventCreateWithFlags(&event[i], cudaEventDisableTiming));
	return event;
}

// The graph of this schedule and these buffers; NULL: they were never seen.
static struct graph *known(struct mp_graphs *graphs, const struct mp_schedule *schedule, int input_slot)
{
	for (int i = 0; i < graphs->count; i++)
		if (graphs->kept[i].schedule == schedule && graphs->kept[i].input_slot == input_slot)
			return &graphs->kept[i];
	return NULL;
}

bool mp_graphs_ready(struct mp_graphs *graphs, const struct mp_rank *r, const struct mp_schedule *schedule, int input_slot)
{
	const struct graph *g = known(graphs, schedule, input_slot);
	(void)r;
	return g && g->run;
}

static void capture(struct mp_rank *r, struct graph *g)
{
	cudaEvent_t *own = r->event;
	cudaGraph_t graph;

	g->event = r->event = fresh_events(r->program->event_count);
	CUDA(cudaStreamBeginCapture(r->compute, cudaStreamCaptureModeThreadLocal));
	for (int i = 0; i < g->schedule->count; i++)
		g->schedule->actions[i].run(r, g->schedule->actions[i].first, g->schedule->actions[i].second);
	CUDA(cudaStreamEndCapture(r->compute, &graph));
	r->event = own;
	CUDA(cudaGraphInstantiate(&g->run, graph, cudaGraphInstantiateFlagUseNodePriority));
	CUDA(cudaGraphDestroy(graph));
}

bool mp_graphs_run(struct mp_graphs *graphs, struct mp_rank *r, const struct mp_schedule *schedule)
{
	struct graph *g = known(graphs, schedule, r->input_slot);
	if (!g && graphs->count < KEPT)
		graphs->kept[graphs->count++] = (struct graph){.schedule = schedule, .input_slot = r->input_slot};
	if (!g)
		return false;
	if (!g->run)
		capture(r, g);
	CUDA(cudaGraphLaunch(g->run, r->compute));
	return true;
}

void mp_graphs_free(struct mp_graphs *graphs, struct mp_rank *r)
{
	for (int i = 0; i < graphs->count; i++) {
		struct graph *g = &graphs->kept[i];
		if (g->run)
			CUDA(cudaGraphExecDestroy(g->run));
		for (int e = 0; g->event && e < r->program->event_count; e++)
			CUDA(cudaEventDestroy(g->event[e]));
		free(g->event);
	}
	free(graphs);
}
