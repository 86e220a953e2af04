// schedule.c: the order in which every stage runs its micro-batches, its messages included.
//
// First the compute actions alone: GPipe runs all forwards, then all backwards; 1F1B starts with min(p - stage, m)
// forwards and then alternates. Both take backwards in ascending order of micro-batches, so that gradients are
// summed in one order under every plan. The lists are simulated with the predicted times; the timeline gives the bubble
// and the order of messages (messages.c).
#include "schedule.h"

#include "cost.h"
#include "depend.h"

static void add_compute(const Plan *plan, Compute *list, bool backward, int microbatch)
{
	ComputeAction action = {backward, microbatch, 0, 0};
	list_add(plan->arena, list, action);
}

static int smaller(int a, int b)
{
	return a < b ? a : b;
}

static Compute training_order(const Plan *plan, int stage)
{
	int m = plan->mesh[AXIS_MICRO], ahead = plan->schedule == SCHEDULE_GPIPE ? m : smaller(plan->stages - stage, m);
	Compute list = {0};
	for (int f = 0; f < ahead; f++)
		add_compute(plan, &list, false, f);
	for (int b = 0; b < m; b++) {
		add_compute(plan, &list, true, b);
		if (ahead + b < m)
			add_compute(plan, &list, false, ahead + b);
	}
	return list;
}

static Compute forward_order(const Plan *plan)
{
	Compute list = {0};
	for (int f = 0; f < plan->mesh[AXIS_MICRO]; f++)
		add_compute(plan, &list, false, f);
	return list;
}

// What a simulation knows: when each micro-batch left a stage's forward or backward.
typedef struct {
	Plan *plan;
	double *finish;         // [stage][backward][micro-batch]; negative: not yet
	double *seconds;        // [stage][backward]: of one micro-batch
	double *last;           // [stage]: of the last one's backward
	LIST(const Transfer *) *arriving; // [stage][backward]: what it waits for
} Simulation;

static double *finish_of(const Simulation *sim, int stage, bool backward, int microbatch)
{
	return &sim->finish[(stage * 2 + backward) * sim->plan->mesh[AXIS_MICRO] + microbatch];
}

static Simulation start_simulation(Plan *plan)
{
	int m = plan->mesh[AXIS_MICRO], p = plan->stages;
	Simulation sim = {.plan = plan};
	sim.finish = arena_alloc(plan->arena, (size_t)p * 2 * m * sizeof *sim.finish);
	sim.seconds = arena_alloc(plan->arena, (size_t)p * 2 * sizeof *sim.seconds);
	sim.arriving = arena_alloc(plan->arena, (size_t)p * 2 * sizeof *sim.arriving);
	for (int i = 0; i < p * 2 * m; i++)
		sim.finish[i] = -1;
	sim.last = arena_alloc(plan->arena, (size_t)p * sizeof *sim.last);
	for (int s = 0; s < p; s++) {
		const Function *functions = plan->roles[s].functions.at;
		sim.seconds[s * 2] = function_seconds(plan, &functions[FUNCTION_FORWARD], false);
		sim.seconds[s * 2 + 1] = function_seconds(plan, &functions[FUNCTION_BACKWARD], false);
		sim.last[s] = function_seconds(plan, &functions[FUNCTION_BACKWARD], true);
	}
	for (int i = 0; i < plan->transfers.count; i++) {
		const Transfer *transfer = plan->transfers.at[i];
		if (transfer->kind == TRANSFER_FORWARD || transfer->kind == TRANSFER_BACKWARD)
			list_add(plan->arena, &sim.arriving[transfer->to * 2 + (transfer->kind == TRANSFER_BACKWARD)], transfer);
	}
	return sim;
}

// The earliest start that messages allow; negative when a sender has not run yet.
static double earliest(const Simulation *sim, int stage, const ComputeAction *action)
{
	double start = 0;
	for (int i = 0; i < sim->arriving[stage * 2 + action->backward].count; i++) {
		const Transfer *transfer = sim->arriving[stage * 2 + action->backward].at[i];
		double sent = *finish_of(sim, transfer->from, action->backward, action->microbatch);
		if (sent < 0)
			return -1;
		double arrival = sent + link_seconds(sim->plan, (double)local_bytes(sim->plan, transfer->tensor));
		start = arrival > start ? arrival : start;
	}
	return start;
}

void simulate(Plan *plan, Compute *lists)
{
	int p = plan->stages;
	Simulation sim = start_simulation(plan);
	int *next = arena_alloc(plan->arena, (size_t)p * sizeof *next);
	double *free_at = arena_alloc(plan->arena, (size_t)p * sizeof *free_at);
	for (bool moved = true; moved;) {
		moved = false;
		for (int s = 0; s < p; s++)
			while (next[s] < lists[s].count) {
				ComputeAction *action = &lists[s].at[next[s]];
				double start = earliest(&sim, s, action);
				if (start < 0)
					break;
				action->start = start > free_at[s] ? start : free_at[s];
				bool last = action->backward && action->microbatch == plan->mesh[AXIS_MICRO] - 1;
				action->finish = free_at[s] = action->start + (last ? sim.last[s] : sim.seconds[s * 2 + action->backward]);
				*finish_of(&sim, s, action->backward, action->microbatch) = action->finish;
				next[s]++;
				moved = true;
			}
	}
	for (int s = 0; s < p; s++)
		assert(next[s] == lists[s].count); // the order of no schedule waits in a circle
}

static void keep_timeline(Plan *plan, const Compute *lists)
{
	double end = 0, busy = 0;
	for (int s = 0; s < plan->stages; s++)
		for (int i = 0; i < lists[s].count; i++) {
			const ComputeAction *a = &lists[s].at[i];
			TimelineEntry entry = {s, a->microbatch, a->backward, a->start, a->finish};
			list_add(plan->arena, &plan->timeline, entry);
			busy += a->finish - a->start;
			end = a->finish > end ? a->finish : end;
		}
	plan->bubble = end > 0 ? 1 - busy / (end * plan->stages) : 0;
	double once = 0;
	for (int s = 0; s < plan->stages; s++) {
		double own = 0;
		for (int kind = FUNCTION_BEGIN; kind <= FUNCTION_END; kind++)
			if (kind != FUNCTION_FORWARD && kind != FUNCTION_BACKWARD)
				own += function_seconds(plan, &plan->roles[s].functions.at[kind], true);
		once = own > once ? own : once;
	}
	plan->step_time = end + once;
}

// Micro-batches between their forward and the end of their backward, at the most.
static int in_flight(const Compute *list)
{
	int live = 0, most = 0;
	for (int i = 0; i < list->count; i++) {
		live += list->at[i].backward ? -1 : 1;
		most = live > most ? live : most;
	}
	return most;
}

void make_schedules(Plan *plan)
{
	int p = plan->stages;
	Compute *forward = arena_alloc(plan->arena, (size_t)p * sizeof *forward);
	for (int s = 0; s < p; s++)
		forward[s] = forward_order(plan);
	simulate(plan, forward);
	if (!plan->graph->training) {
		keep_timeline(plan, forward);
		for (int s = 0; s < p; s++)
			plan->roles[s].saved_slots = 0;
		write_actions(plan, forward, LIST_INFER);
		return;
	}
	Compute *training = arena_alloc(plan->arena, (size_t)p * sizeof *training);
	for (int s = 0; s < p; s++) {
		training[s] = training_order(plan, s);
		plan->roles[s].saved_slots = in_flight(&training[s]);
	}
	simulate(plan, training);
	keep_timeline(plan, training);
	write_actions(plan, training, LIST_TRAIN);
	write_actions(plan, forward, LIST_EVALUATE);
}
