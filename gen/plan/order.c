// order.c: the backward pass in an order that hides communication.
//
// In the order of the graph a device waits for every collective: what comes next needs its result. But gradients of weights
// are needed by nobody until the end. So within each block they are put off until the chain of the other gradients waits
// for a collective, and a collective that opens the next block is issued as soon as its operand is there, before what is left of
// this block: the last gradients of weights are kept for it. The order is that of a simulated device: whenever computation is free it
// takes a step of the chain, if there is one whose operands have arrived, and else the first gradient of a weight. Every block
// starts from the same state, so that equal layers keep equal orders and are emitted once. Only orders change, so results do not.
#include <string.h>

#include "cost.h"
#include "depend.h"
#include "fuse.h"

typedef struct {
	const Plan *plan;
	const Step *steps;
	int count;
	const Dependencies *on; // by step
	bool *chain;            // by step: another block or stage waits for it
	bool *done;             // by step
	bool *opens;            // by step: opens the next block, and is issued in this one
	bool *kept;             // by step: for the time in which that is under way
	int block_end;          // behind the last step of the block
	int opening;            // how many steps that open the next block are not issued yet
	double *finish;         // by step, in seconds from the start of its block
	double free_at[2];      // of computation, of communication
	int *order, ordered;    // steps in their new order
} Ordering;

// The chain: what is sent to another stage or used by a step of another block, and all that leads there.
static void find_chain(Ordering *o)
{
	for (int i = o->count - 1; i >= 0; i--) {
		o->chain[i] |= is_sent(o->plan, &o->steps[i]);
		for (int k = 0; k < o->on[i].count; k++) {
			int earlier = o->on[i].at[k].step;
			if (o->on[i].at[k].used)
				o->chain[earlier] |= o->chain[i] || o->steps[earlier].block != o->steps[i].block;
		}
	}
}

static bool is_ready(const Ordering *o, int step)
{
	for (int k = 0; k < o->on[step].count; k++)
		if (!o->done[o->on[step].at[k].step])
			return false;
	return !o->done[step];
}

static double earliest(const Ordering *o, int step)
{
	double start = o->free_at[is_communication(&o->steps[step])];
	for (int k = 0; k < o->on[step].count; k++) {
		double finish = o->finish[o->on[step].at[k].step];
		start = finish > start ? finish : start;
	}
	return start;
}

// The ready step among those up to `end`, of the chain or not, communication or not, that can start first; -1: there is none.
static int find_first(const Ordering *o, int first, int end, bool chain, bool communication)
{
	int best = -1;
	for (int i = first; i < end; i++)
		if (o->chain[i] == chain && is_communication(&o->steps[i]) == communication && is_ready(o, i) && !(o->kept[i] && o->opening)
		    && (i < o->block_end || o->opens[i]) && (best < 0 || earliest(o, i) < earliest(o, best)))
			best = i;
	return best;
}

// What a device does next of the steps [first, end): communication as soon as it can start, the chain's before others; and
// what is not of the chain only while the chain waits.
static int next_step(const Ordering *o, int first, int end)
{
	int chain = find_first(o, first, end, true, false), other = find_first(o, first, end, false, false);
	int message = find_first(o, first, end, true, true);
	message = message < 0 ? find_first(o, first, end, false, true) : message;
	int work = chain;
	if (chain < 0 || (other >= 0 && earliest(o, chain) > o->free_at[0] && earliest(o, other) < earliest(o, chain)))
		work = other;
	return work < 0 || (message >= 0 && earliest(o, message) <= earliest(o, work)) ? message : work;
}

static void take(Ordering *o, int step)
{
	double *queue = &o->free_at[is_communication(&o->steps[step])];
	o->finish[step] = *queue = earliest(o, step) + step_seconds(o->plan, &o->steps[step]);
	o->done[step] = true;
	o->opening -= o->opens[step];
	o->order[o->ordered++] = step;
}

// Whether a step of the next block can be issued in this one, [first, end): a collective of what this block has made.
static bool opens_next(const Ordering *o, int step, int first, int end)
{
	bool of_this = false, ready = o->steps[step].kind == STEP_COLLECTIVE;
	for (int k = 0; k < o->on[step].count; k++) {
		const Dependency *on = &o->on[step].at[k];
		ready &= on->step < end;
		of_this |= on->used && on->step >= first;
	}
	return ready && of_this;
}

// Marks what opens the next block, [end, stop). Returns its seconds.
static double mark_opening(Ordering *o, int first, int end, int stop)
{
	double total = 0;
	for (int i = end; i < stop; i++) {
		o->opens[i] = opens_next(o, i, first, end);
		o->opening += o->opens[i];
		total += o->opens[i] ? step_seconds(o->plan, &o->steps[i]) : 0;
	}
	return total;
}

// Keeps the block's last computations outside of the chain that together take so long.
static void keep_for_opening(Ordering *o, int first, int end, double seconds)
{
	for (int i = end - 1; i >= first && seconds > 0; i--)
		if (!o->chain[i] && !is_communication(&o->steps[i])) {
			o->kept[i] = true;
			seconds -= step_seconds(o->plan, &o->steps[i]);
		}
}

static int end_of_block(const Ordering *o, int first)
{
	int end = first;
	while (end < o->count && o->steps[end].block == o->steps[first].block)
		end++;
	return end;
}

// Orders the steps of [first, end) that are not issued yet, and those that open the block behind them.
static void order_block(Ordering *o, int first, int end)
{
	int stop = end < o->count ? end_of_block(o, end) : end;
	o->block_end = end;
	keep_for_opening(o, first, end, mark_opening(o, first, end, stop));
	int left = o->opening;
	for (int i = first; i < end; i++)
		left += !o->done[i];
	memset(o->finish, 0, (size_t)stop * sizeof *o->finish);
	o->free_at[0] = o->free_at[1] = 0;
	for (; left; left--)
		take(o, next_step(o, first, stop));
}

static void order_function(const Plan *plan, Function *function)
{
	int n = function->steps.count;
	Arena *arena = plan->arena;
	Ordering o = {.plan = plan, .steps = function->steps.at, .count = n, .on = find_dependencies(plan, function),
	              .chain = arena_alloc(arena, (size_t)n), .done = arena_alloc(arena, (size_t)n),
	              .opens = arena_alloc(arena, (size_t)n), .kept = arena_alloc(arena, (size_t)n),
	              .finish = arena_alloc(arena, (size_t)n * sizeof *o.finish), .order = arena_alloc(arena, (size_t)n * sizeof *o.order)};
	Step *ordered = arena_alloc(arena, (size_t)n * sizeof *ordered);
	find_chain(&o);
	for (int first = 0, end; first < n; first = end) {
		int from = o.ordered;
		end = end_of_block(&o, first);
		order_block(&o, first, end);
		for (int i = from; i < o.ordered; i++) {
			ordered[i] = o.steps[o.order[i]];
			ordered[i].block = o.steps[first].block; // what opens the next block belongs to this one now
		}
	}
	assert(o.ordered == n);
	function->steps.at = ordered;
	function->steps.capacity = n;
}

static bool has_collectives(const Function *function)
{
	for (int i = 0; i < function->steps.count; i++)
		if (function->steps.at[i].kind == STEP_COLLECTIVE)
			return true;
	return false;
}

void hide_communication(const Plan *plan, Function *function)
{
	if (has_collectives(function))
		order_function(plan, function);
}
