// messages.c: adds the messages between stages to the lists of compute actions.
//
// All messages of a step get one global order: by the simulated time at which their sender has finished. Every stage
// issues its messages in that order, so even without any buffering no two stages can wait for each other: of all
// messages not yet delivered, the first in the global order has both its ends at the head of their queues. A stage
// receives before the action that needs it and sends behind the action that made it; what it issues between two compute
// actions, for at most two micro-batches, is one NCCL group.
//
// The parts of a group progress in rounds: NCCL takes the n-th send to a peer together with the n-th receive from it, and
// begins no round before the one in front has ended. Two tensors sent to a peer and one received from it: the second is
// sent only when the third has come, and that may be made of the second. So a group both sends to a peer and receives
// from it only where the peer has just these messages in one group too. Then both have the same rounds, for both take
// tensors in the global order, and each round ends, as both ends of all its messages have begun. This is so in most of the
// steady state of 1F1B, where one stage sends F(k + 1) and receives B(k) while the next sends B(k) and receives F(k + 1);
// it is not where a receive was issued earlier, nor where GPipe turns around or there is one micro-batch: what the peer
// sends back there is made of what it receives. Elsewhere a group begins where the direction changes. Groups that only
// send to a peer, or only receive, take messages in the global order, whatever groups the peer has.
//
// Different peers progress independently, says NCCL's documentation, but rounds of large messages share its channels, and
// those take one round of all peers after another. So a group has several peers only where all of it is one round.
//
// Tensors that only evaluations need travel behind or in front of the others of their parcel, in a group of their own. Two
// parcels together would change places with them, so in an evaluation a parcel that has such tensors shares no group.
#include <stdlib.h>
#include <string.h>

#include "fuse.h"
#include "schedule.h"

// All tensors that one stage sends another in one direction, for one micro-batch.
typedef struct {
	double time;
	bool backward;
	int from, to, microbatch;
	int tensors;
	bool evaluated;         // some of them are for evaluations only
	int place[2];           // among the parcels of the stage that receives it, and of the one that sends it
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

// What one stage sends another in one direction, for any micro-batch.
static Parcel contents(const Plan *plan, bool backward, int from, int to)
{
	Parcel parcel = {.backward = backward, .from = from, .to = to};
	for (int i = 0; i < plan->transfers.count; i++) {
		const Transfer *t = plan->transfers.at[i];
		if ((int)t->kind == (backward ? TRANSFER_BACKWARD : TRANSFER_FORWARD) && t->from == from && t->to == to) {
			parcel.tensors++;
			parcel.evaluated |= t->evaluation;
		}
	}
	return parcel;
}

static bool carries(const Plan *plan, bool backward, int from, int to)
{
	return contents(plan, backward, from, to).tensors > 0;
}

static Parcels order_parcels(const Plan *plan, const Compute *lists)
{
	Parcels parcels = {0};
	for (int from = 0; from < plan->stages; from++)
		for (int to = 0; to < plan->stages; to++)
			for (int i = 0; i < lists[from].count; i++) {
				const ComputeAction *a = &lists[from].at[i];
				Parcel parcel = contents(plan, a->backward, from, to);
				parcel.time = a->finish;
				parcel.microbatch = a->microbatch;
				if (parcel.tensors)
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

// ---- groups

typedef struct {
	Plan *plan;
	Role *role;
	Actions *actions;
	LIST(const Parcel *) own; // of this stage, in the global order
	bool *opens;            // by parcel of `own`: it is the first of a group
	int *end[2][2];         // by received or sent, forward or backward, and micro-batch: one past the last such parcel of `own`
	int next;               // first parcel not issued
	bool evaluating;
} Writer;

static void collect_own(Writer *w, Parcels *parcels)
{
	Arena *arena = w->plan->arena;
	int stage = w->role->stage;
	for (int i = 0; i < 4; i++)
		w->end[i / 2][i % 2] = arena_alloc(arena, (size_t)w->plan->mesh[AXIS_MICRO] * sizeof(int));
	for (int i = 0; i < parcels->count; i++) {
		Parcel *parcel = &parcels->at[i];
		if (parcel->from != stage && parcel->to != stage)
			continue;
		parcel->place[parcel->from == stage] = w->own.count;
		list_add(arena, &w->own, parcel);
		w->end[parcel->from == stage][parcel->backward][parcel->microbatch] = w->own.count;
	}
	w->opens = arena_alloc(arena, ((size_t)w->own.count + 1) * sizeof *w->opens);
}

// One past the last parcel that `action` receives (or has made, when sent); what is issued already does not count.
static int parcels_of(const Writer *w, const ComputeAction *action, bool sent)
{
	int end = w->end[sent][action->backward][action->microbatch];
	return end > w->next ? end : w->next;
}

// One past the last parcel that is issued before list[i]: what comes after a compute action (its sends) and before the
// next one (its receives) is issued in one go, so that they can share a group.
static int due_before(const Writer *w, const Compute *list, int i)
{
	int sent = i > 0 ? parcels_of(w, &list->at[i - 1], true) : 0;
	int needed = i < list->count ? parcels_of(w, &list->at[i], false) : w->own.count;
	return sent > needed ? sent : needed;
}

// Whether own[from .. to) can be one group, as far as this stage sees: of at most two micro-batches, and with several peers
// only where each gets and gives at most one tensor.
static bool can_be_group(const Writer *w, int from, int to)
{
	const Parcel *first = w->own.at[from];
	int stage = w->role->stage, peer = first->from == stage ? first->to : first->from, second = first->microbatch;
	bool several = false, rounds = false;
	for (int i = from; i < to; i++) {
		const Parcel *parcel = w->own.at[i];
		if (w->evaluating && parcel->evaluated && to - from > 1)
			return false;
		if (second == first->microbatch)
			second = parcel->microbatch;
		if (parcel->microbatch != first->microbatch && parcel->microbatch != second)
			return false;
		several |= parcel->from != peer && parcel->to != peer;
		rounds |= parcel->tensors > 1;
		for (int k = from; k < i; k++)
			rounds |= w->own.at[k]->from == parcel->from && w->own.at[k]->to == parcel->to;
	}
	return !several || !rounds;
}

// Needs: parcels. Gives: groups of what is issued in one go.
static void open_groups(Writer *w, const Compute *list)
{
	for (int i = 0; i <= list->count; i++)
		for (int end = due_before(w, list, i); w->next < end;) {
			int from = w->next++;
			w->opens[from] = true;
			while (w->next < end && can_be_group(w, from, w->next + 1))
				w->next++;
		}
	w->next = 0;
}

static int end_of_group(const Writer *w, int from)
{
	int to = from + 1;
	while (to < w->own.count && !w->opens[to])
		to++;
	return to;
}

static bool is_with(const Parcel *parcel, int stage)
{
	return parcel->from == stage || parcel->to == stage;
}

// How many parcels of own[from .. to) are exchanged with a stage.
static int count_with(const Writer *w, int from, int to, int stage)
{
	int count = 0;
	for (int i = from; i < to; i++)
		count += is_with(w->own.at[i], stage);
	return count;
}

// The first parcel of own[from .. to) that goes the other way than one with the same peer before it; `to`: there is none.
static int first_turn(const Writer *w, int from, int to, int peer)
{
	int before = to;
	for (int i = from; i < to; i++)
		if (is_with(w->own.at[i], peer)) {
			if (before < to && w->own.at[i]->from != w->own.at[before]->from)
				return i;
			before = i;
		}
	return to;
}

// Whether a group of the peer exchanges just what own[from .. to) exchanges with it.
static bool peer_agrees(const Writer *w, const Writer *peer, int from, int to)
{
	int stage = w->role->stage, other = peer->role->stage, first = from, last = to - 1;
	while (!is_with(w->own.at[first], other))
		first++;
	while (!is_with(w->own.at[last], other))
		last--;
	int begin = w->own.at[first]->place[w->own.at[first]->from == other];
	while (!peer->opens[begin])
		begin--;
	int end = end_of_group(peer, begin);
	return w->own.at[last]->place[w->own.at[last]->from == other] < end
	       && count_with(peer, begin, end, stage) == count_with(w, from, to, other);
}

// Opens a group in front of a parcel of own[from .. to); false when its messages go in the same rounds at all peers.
static bool split_group(const Writer *writers, Writer *w, int from, int to)
{
	for (int peer = 0; peer < w->plan->stages; peer++) {
		int turn = peer != w->role->stage ? first_turn(w, from, to, peer) : to;
		if (turn < to && !peer_agrees(w, &writers[peer], from, to)) {
			w->opens[turn] = true;
			return true;
		}
	}
	return false;
}

// Needs: groups of all stages. Gives: groups that both send and receive with a peer only where it has such a group too.
// A group that is split may leave one of another peer without its like, so this goes on until none is.
static void split_groups(Writer *writers, int stages)
{
	for (bool split = true; split;) {
		split = false;
		for (int s = 0; s < stages; s++)
			for (int from = 0, to; from < writers[s].own.count; from = to) {
				to = end_of_group(&writers[s], from);
				while (split_group(writers, &writers[s], from, to)) {
					split = true;
					to = end_of_group(&writers[s], from);
				}
			}
	}
}

// ---- lists

static void add_action(Writer *w, int function, int first, int second, const char *name)
{
	Action action = {function, first, second, name};
	list_add(w->plan->arena, w->actions, action);
}

// One NCCL group: own[from .. to).
static void add_group(Writer *w, int from, int to)
{
	Plan *plan = w->plan;
	Function function = {.kind = FUNCTION_TRANSFER};
	Text name = {.arena = plan->arena}, action = {.arena = plan->arena};
	int first = w->own.at[from]->microbatch, second = EVERY_MICROBATCH;
	for (int i = from; i < to; i++) {
		const Parcel *parcel = w->own.at[i];
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

static void add_function(Writer *w, FunctionKind kind)
{
	const Function *function = &w->role->functions.at[kind];
	if (function->steps.count)
		add_action(w, kind, EVERY_MICROBATCH, EVERY_MICROBATCH, function->name);
}

static void write_list(Writer *w, const Compute *list)
{
	int p = w->role->stage;
	add_action(w, FUNCTION_BEGIN, EVERY_MICROBATCH, EVERY_MICROBATCH, "begin_step");
	add_function(w, FUNCTION_PROLOGUE);
	for (int i = 0; i <= list->count; i++) {
		for (int due = due_before(w, list, i), to; w->next < due; w->next = to)
			add_group(w, w->next, to = end_of_group(w, w->next));
		if (i == list->count)
			break;
		const ComputeAction *a = &list->at[i];
		const Function *function = &w->role->functions.at[a->backward ? FUNCTION_BACKWARD : FUNCTION_FORWARD];
		if (function->steps.count)
			add_action(w, function->kind, a->microbatch, EVERY_MICROBATCH,
			           arena_printf(w->plan->arena, "%d%c%d", p, a->backward ? 'B' : 'F', a->microbatch));
	}
	add_function(w, FUNCTION_RESULTS);
	if (!w->evaluating)
		add_function(w, FUNCTION_UPDATE);
	add_action(w, FUNCTION_END, EVERY_MICROBATCH, EVERY_MICROBATCH, "end_step");
}

void write_actions(Plan *plan, const Compute *lists, ListKind kind)
{
	Parcels parcels = order_parcels(plan, lists);
	Writer *writers = arena_alloc(plan->arena, (size_t)plan->stages * sizeof *writers);
	for (int s = 0; s < plan->stages; s++) {
		Writer *w = &writers[s];
		w->plan = plan;
		w->role = &plan->roles[s];
		w->evaluating = kind != LIST_TRAIN;
		w->actions = kind == LIST_TRAIN ? &w->role->train : kind == LIST_EVALUATE ? &w->role->evaluate : &w->role->infer;
		collect_own(w, &parcels);
		open_groups(w, &lists[s]);
	}
	split_groups(writers, plan->stages);
	for (int s = 0; s < plan->stages; s++)
		write_list(&writers[s], &lists[s]);
}
