// messages.c: adds the messages between stages to the lists of compute actions.
//
// All messages of a step get one global order: by the simulated time at which their sender has finished. Every stage
// issues its messages in that order, so even without any buffering no two stages can wait for each other: of all
// messages not yet delivered, the first in the global order has both its ends at the head of their queues. A stage
// receives before the action that needs it and sends behind the action that made it; what it issues between two compute
// actions, for at most two micro-batches, is one NCCL group, whose parts progress independently.
#include <stdlib.h>
#include <string.h>

#include "fuse.h"
#include "schedule.h"

// All tensors that one stage sends another in one direction, for one micro-batch.
typedef struct {
	double time;
	bool backward;
	int from, to, microbatch;
} Parcel;

typedef LIST(Parcel) Parcels;

static int compare_parcels(const void *left, const void *right)
{
	const Parcel *a = left, *b = right;
	if (a->time != b->time)
		return a->time < b->time ? -1 : 1;
	if (a->backward != b->backward)
		return a->backward - b->backward;
	if (a->from != b->from)
		return a->from - b->from;
	return a->to != b->to ? a->to - b->to : a->microbatch - b->microbatch;
}

static bool carries(const Plan *plan, bool backward, int from, int to)
{
	for (int i = 0; i < plan->transfers.count; i++) {
		const Transfer *t = plan->transfers.at[i];
		if ((int)t->kind == (backward ? TRANSFER_BACKWARD : TRANSFER_FORWARD) && t->from == from && t->to == to)
			return true;
	}
	return false;
}

static Parcels order_parcels(const Plan *plan, const Compute *lists)
{
	Parcels parcels = {0};
	for (int from = 0; from < plan->stages; from++)
		for (int to = 0; to < plan->stages; to++)
			for (int i = 0; i < lists[from].count; i++) {
				const ComputeAction *a = &lists[from].at[i];
				Parcel parcel = {a->finish, a->backward, from, to, a->microbatch};
				if (carries(plan, a->backward, from, to))
					list_add(plan->arena, &parcels, parcel);
			}
	if (parcels.count)
		qsort(parcels.at, (size_t)parcels.count, sizeof *parcels.at, compare_parcels);
	return parcels;
}

// ---- functions that send and receive

static bool several_peers(const Plan *plan, int stage, bool backward, bool send)
{
	int peers = 0;
	for (int other = 0; other < plan->stages; other++)
		peers += send ? carries(plan, backward, stage, other) : carries(plan, backward, other, stage);
	return peers > 1;
}

static void add_messages(Plan *plan, Function *function, const Parcel *parcel, int stage, int argument)
{
	for (int i = 0; i < plan->transfers.count; i++) {
		const Transfer *t = plan->transfers.at[i];
		if ((int)t->kind != (parcel->backward ? TRANSFER_BACKWARD : TRANSFER_FORWARD) || t->from != parcel->from || t->to != parcel->to)
			continue;
		When when = t->evaluation ? WHEN_EVALUATING : WHEN_ALWAYS;
		Step *step = NULL;
		for (int k = 0; k < function->steps.count; k++)
			if (function->steps.at[k].when == when)
				step = &function->steps.at[k];
		if (!step) {
			Step fresh = {.kind = STEP_TRANSFER, .stream = STREAM_PP, .call = -1, .name = t->tensor->name, .when = when};
			list_add(plan->arena, &function->steps, fresh);
			step = &function->steps.at[function->steps.count - 1];
		}
		Message message = {.transfer = t, .send = t->from == stage, .argument = argument};
		list_add(plan->arena, &step->messages, message);
		add_access(plan, step, t->tensor, !message.send, argument);
	}
}

static const char *parcel_name(const Plan *plan, const Parcel *parcel, int stage, bool in_function_name)
{
	bool send = parcel->from == stage;
	int peer = send ? parcel->to : parcel->from;
	const char *verb = send ? "send" : "recv", *direction = parcel->backward ? "b" : "f";
	if (!in_function_name)
		return arena_printf(plan->arena, "%d%s_%s%d", stage, send ? "SEND" : "RECV", parcel->backward ? "B" : "F", parcel->microbatch);
	if (several_peers(plan, stage, parcel->backward, send))
		return arena_printf(plan->arena, "%s_%s_%s_%d", verb, direction, send ? "to" : "from", peer);
	return arena_printf(plan->arena, "%s_%s", verb, direction);
}

static bool same_messages(const Function *a, const Function *b)
{
	if (a->steps.count != b->steps.count)
		return false;
	for (int i = 0; i < a->steps.count; i++) {
		const Step *x = &a->steps.at[i], *y = &b->steps.at[i];
		if (x->messages.count != y->messages.count)
			return false;
		for (int k = 0; k < x->messages.count; k++) {
			const Message *left = &x->messages.at[k], *right = &y->messages.at[k];
			if (left->transfer != right->transfer || left->send != right->send || left->argument != right->argument)
				return false;
		}
	}
	return true;
}

// Index of the role's function for these messages; made when it is new.
static int function_for(Plan *plan, Role *role, const Function *wanted)
{
	int namesakes = 0;
	for (int i = FUNCTION_END + 1; i < role->functions.count; i++) {
		if (same_messages(&role->functions.at[i], wanted))
			return i;
		namesakes += !strncmp(role->functions.at[i].name, wanted->name, strlen(wanted->name));
	}
	Function function = *wanted;
	if (namesakes)
		function.name = arena_printf(plan->arena, "%s_%d", wanted->name, namesakes + 1);
	list_add(plan->arena, &role->functions, function);
	return role->functions.count - 1;
}

// ---- lists

typedef struct {
	Plan *plan;
	Role *role;
	Actions *actions;
	Parcels own;            // of this stage, in the global order
	int *end[2][2];         // by received or sent, forward or backward, and micro-batch: one past the last such parcel of `own`
	int next;               // first parcel not issued
	bool evaluating;
} Writer;

static void add_action(Writer *w, int function, int first, int second, const char *name)
{
	Action action = {function, first, second, name};
	list_add(w->plan->arena, w->actions, action);
}

// One NCCL group: own[from .. to), of at most two micro-batches.
static void add_group(Writer *w, int from, int to)
{
	Plan *plan = w->plan;
	Function function = {.kind = FUNCTION_TRANSFER};
	Text name = {.arena = plan->arena}, action = {.arena = plan->arena};
	int first = w->own.at[from].microbatch, second = EVERY_MICROBATCH;
	for (int i = from; i < to; i++) {
		const Parcel *parcel = &w->own.at[i];
		int argument = parcel->microbatch == first ? 0 : 1;
		if (argument)
			second = parcel->microbatch;
		add_messages(plan, &function, parcel, w->role->stage, argument);
		text_add(&name, "%s%s", i > from ? "_" : "", parcel_name(plan, parcel, w->role->stage, true));
		text_add(&action, "%s%s", i > from ? "+" : "", parcel_name(plan, parcel, w->role->stage, false));
	}
	bool any = w->evaluating;
	for (int i = 0; i < function.steps.count; i++)
		any |= function.steps.at[i].when == WHEN_ALWAYS;
	function.name = name.at;
	if (any)
		add_action(w, function_for(plan, w->role, &function), first, second, action.at);
}

// Issues the parcels up to own[end).
static void issue(Writer *w, int end)
{
	while (w->next < end) {
		int from = w->next, second = EVERY_MICROBATCH;
		for (; w->next < end; w->next++) {
			int microbatch = w->own.at[w->next].microbatch;
			if (microbatch == w->own.at[from].microbatch || microbatch == second)
				continue;
			if (second != EVERY_MICROBATCH)
				break;
			second = microbatch;
		}
		add_group(w, from, w->next);
	}
}

static void collect_own(Writer *w, const Parcels *parcels)
{
	int stage = w->role->stage;
	for (int i = 0; i < 4; i++)
		w->end[i / 2][i % 2] = arena_alloc(w->plan->arena, (size_t)w->plan->mesh[AXIS_MICRO] * sizeof(int));
	for (int i = 0; i < parcels->count; i++) {
		const Parcel *parcel = &parcels->at[i];
		if (parcel->from != stage && parcel->to != stage)
			continue;
		list_add(w->plan->arena, &w->own, *parcel);
		w->end[parcel->from == stage][parcel->backward][parcel->microbatch] = w->own.count;
	}
}

// One past the last parcel that `action` receives (or has made, when sent); what is issued already does not count.
static int parcels_of(const Writer *w, const ComputeAction *action, bool sent)
{
	int end = w->end[sent][action->backward][action->microbatch];
	return end > w->next ? end : w->next;
}

static void add_function(Writer *w, FunctionKind kind)
{
	const Function *function = &w->role->functions.at[kind];
	if (function->steps.count)
		add_action(w, kind, EVERY_MICROBATCH, EVERY_MICROBATCH, function->name);
}

// What comes after a compute action (its sends) and before the next one (its receives) is issued in one go, so that
// they can share a group.
static void write_list(Writer *w, const Compute *list)
{
	int p = w->role->stage;
	add_action(w, FUNCTION_BEGIN, EVERY_MICROBATCH, EVERY_MICROBATCH, "begin_step");
	add_function(w, FUNCTION_PROLOGUE);
	int due = 0;
	for (int i = 0; i < list->count; i++) {
		const ComputeAction *a = &list->at[i];
		int needed = parcels_of(w, a, false);
		issue(w, needed > due ? needed : due);
		const Function *function = &w->role->functions.at[a->backward ? FUNCTION_BACKWARD : FUNCTION_FORWARD];
		if (function->steps.count)
			add_action(w, function->kind, a->microbatch, EVERY_MICROBATCH,
			           arena_printf(w->plan->arena, "%d%c%d", p, a->backward ? 'B' : 'F', a->microbatch));
		due = parcels_of(w, a, true);
	}
	issue(w, w->own.count);
	add_function(w, FUNCTION_RESULTS);
	if (!w->evaluating)
		add_function(w, FUNCTION_UPDATE);
	add_action(w, FUNCTION_END, EVERY_MICROBATCH, EVERY_MICROBATCH, "end_step");
}

void write_actions(Plan *plan, const Compute *lists, ListKind kind)
{
	Parcels parcels = order_parcels(plan, lists);
	for (int s = 0; s < plan->stages; s++) {
		Role *role = &plan->roles[s];
		Writer w = {.plan = plan, .role = role, .evaluating = kind != LIST_TRAIN};
		w.actions = kind == LIST_TRAIN ? &role->train : kind == LIST_EVALUATE ? &role->evaluate : &role->infer;
		collect_own(&w, &parcels);
		write_list(&w, &lists[s]);
	}
}
