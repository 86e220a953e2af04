// synchronise.c: the events that order steps on different streams, and none besides.
//
// Two steps conflict when one writes bytes that the other uses; NCCL calls of different communicators conflict too,
// since a device must issue them in one order. Steps of one stream run in order. The action lists are unrolled as the
// host will enqueue them, with a vector clock for each stream; where a step conflicts with an earlier one of another
// stream that nothing orders before it, an edge is added: an event recorded behind the one, a wait before the
// other. Functions are shared by all micro-batches, so an edge holds for all of them; where both ends use the slot of their
// own micro-batch, the event has as many instances. Then every edge is taken away in turn, and left out if
// no conflict comes back; of equal layers only one waits where that is enough. Streams fork from compute at a step's begin and
// join at its end, so steps do not overlap.
#include <string.h>

#include "plan.h"

// Behind a message the event is the message's: whichever function delivers it records it.
typedef struct {
	int from_function, from_step, from_argument;
	const Message *message; // of the step that records, when it is a transfer
	int to_function, to_step, to_argument;
	int to_instance;        // of the layers that share to_step, the step that was found first
	bool alone;             // no other layer waits
	int slots;
} Edge;

typedef struct {
	int function, step, microbatch[2];
	bool whole;             // outside of the micro-batch phases: uses every slot
} Instance;

typedef struct {
	int at[STREAMS];        // by stream: how many of its steps are known to be done
} Clock;

typedef LIST(int) Numbers;

// An edge whose event a step records, for one of its micro-batches.
typedef struct {
	int edge, argument;
} RecordedEdge;

typedef LIST(RecordedEdge) Recording;

typedef struct {
	const Plan *plan;
	Role *role;
	LIST(Edge) edges;
	bool *dropped;          // by edge
	LIST(Instance) lists[3]; // unrolled train, evaluate, infer: without the steps that cannot conflict
	int *region;            // by buffer: the first one with the same bytes, which stands for all of them
	bool *shared;           // by region: steps of several streams use it, or what overlaps it
	Numbers *overlaps[STREAMS]; // by region: other regions with some of the same bytes, that the stream uses
	int *first_code;        // by function: where its steps stand among the steps of all functions
	Numbers *waiting;       // by step: edges that it waits for
	Recording *recording; // by step: edges that it records, for which micro-batch
	int *ranks, *pieces;    // by region: into how many parts steps divide its rows, at the most
	int *first_part, parts; // by region: where the parts of its slots stand in a table of all parts; their number
} Sync;

static const Step *step_of(const Sync *sync, const Instance *instance)
{
	return &sync->role->functions.at[instance->function].steps.at[instance->step];
}

// The step whose code runs: layers that do the same share it, and its waits and records.
static int code_of(const Sync *sync, const Instance *instance)
{
	return step_of(sync, instance)->same_as;
}

// ---- conflicts

static bool is_nccl(const Step *step)
{
	bool gathers = step->kind == STEP_CHUNKS && step->nodes.at[0]->attributes.parts > 0;
	return step->kind == STEP_COLLECTIVE || step->kind == STEP_TRANSFER || gathers;
}

static bool ranges_meet(const Buffer *a, const Buffer *b)
{
	size_t a_end = a->offset + a->stride * (size_t)(a->slots - 1) + a->bytes, b_end = b->offset + b->stride * (size_t)(b->slots - 1) + b->bytes;
	return a->offset < b_end && b->offset < a_end;
}

// Whether other buffers may have some of the same bytes.
static bool lies_over(const Role *role, const Buffer *buffer)
{
	return buffer->class == CLASS_SCRATCH || (role->shared && (buffer->class == CLASS_GRADIENTS || buffer->class == CLASS_ACTIVATIONS));
}

// The edge's ends (arguments and slots) when these accesses conflict.
static bool accesses_conflict(const Sync *sync, const Instance *x, const Access *a, const Instance *y, const Access *b, Edge *edge)
{
	if (!a->write && !b->write)
		return false;
	const Buffer *left = &sync->role->buffers.at[a->buffer], *right = &sync->role->buffers.at[b->buffer];
	*edge = (Edge){.slots = 1};
	if (a->buffer != b->buffer)
		return lies_over(sync->role, left) && lies_over(sync->role, right) && ranges_meet(left, right);
	if (!rows_meet(&a->rows, &b->rows))
		return false;
	if (left->slots == 1 || x->whole || y->whole)
		return true;
	*edge = (Edge){.from_argument = a->argument, .to_argument = b->argument, .slots = left->slots};
	return x->microbatch[a->argument] % left->slots == y->microbatch[b->argument] % left->slots;
}

static bool conflict(const Sync *sync, const Instance *x, const Instance *y, Edge *edge)
{
	const Step *a = step_of(sync, x), *b = step_of(sync, y);
	for (int i = 0; i < a->accesses.count; i++)
		for (int k = 0; k < b->accesses.count; k++)
			if (accesses_conflict(sync, x, &a->accesses.at[i], y, &b->accesses.at[k], edge))
				return true;
	*edge = (Edge){.slots = 1};
	return is_nccl(a) && is_nccl(b);
}

// ---- unrolling

static bool runs(const Step *step, const Action *action, int list, int last)
{
	if (step->when == WHEN_EVALUATING)
		return list != 0;
	return step->when == WHEN_ALWAYS || action->first == (step->when == WHEN_FIRST ? 0 : last);
}

static bool can_conflict(const Sync *sync, const Step *step)
{
	bool can = is_nccl(step);
	for (int i = 0; i < step->accesses.count; i++)
		can |= sync->shared[sync->region[step->accesses.at[i].buffer]];
	return can;
}

static bool is_next_period(const Action *a, const Action *b)
{
	return a->function == b->function && a->first >= 0 && b->first == a->first + 1 && (a->second < 0 ? b->second < 0 : b->second == a->second + 1);
}

// In its steady state a schedule repeats itself with the next micro-batch. Which steps conflict depends on how far apart
// micro-batches are, not on their numbers: what the steady state holds beyond a few rounds of all slots shows nothing new.
// Returns how many periods, of *length actions, to leave out from *at on.
static int find_surplus(const Sync *sync, const Actions *actions, int *at, int *length)
{
	int rounds = 8, best = 0;
	for (int i = 0; i < sync->role->buffers.count; i++)
		if (!sync->role->buffers.at[i].whole && sync->role->buffers.at[i].slots + 6 > rounds)
			rounds = sync->role->buffers.at[i].slots + 6;
	for (int period = 1; period <= 12 && period < actions->count; period++)
		for (int i = 0, run = 0; i + period < actions->count; i++) {
			run = is_next_period(&actions->at[i], &actions->at[i + period]) ? run + 1 : 0;
			int surplus = run / period - 2 * rounds;
			if (surplus > best) {
				best = surplus;
				*length = period;
				*at = i + period - run - period + 1 + rounds * period;
			}
		}
	return best;
}

static void unroll(Sync *sync, int list, const Actions *actions)
{
	int at = 0, length = 0, surplus = find_surplus(sync, actions, &at, &length), last = sync->plan->mesh[AXIS_MICRO] - 1 - surplus;
	for (int i = 0; i < actions->count; i++) {
		if (surplus && i == at)
			i += surplus * length;
		Action action = actions->at[i];
		const Function *function = &sync->role->functions.at[action.function];
		if (surplus && i >= at && action.first >= 0)
			action.first -= surplus;
		if (surplus && i >= at && action.second >= 0)
			action.second -= surplus;
		for (int k = 0; k < function->steps.count; k++) {
			Instance instance = {action.function, k, {action.first, action.second}, action.first == EVERY_MICROBATCH};
			if (runs(&function->steps.at[k], &action, list, last) && can_conflict(sync, &function->steps.at[k]))
				list_add(sync->plan->arena, &sync->lists[list], instance);
		}
	}
}

static void number_steps(Sync *sync)
{
	const Role *role = sync->role;
	int steps = 0;
	sync->first_code = arena_alloc(sync->plan->arena, (size_t)role->functions.count * sizeof *sync->first_code);
	for (int f = 0; f < role->functions.count; f++) {
		sync->first_code[f] = steps;
		steps += role->functions.at[f].steps.count;
	}
	sync->waiting = arena_alloc(sync->plan->arena, (size_t)(steps + 1) * sizeof *sync->waiting);
	sync->recording = arena_alloc(sync->plan->arena, (size_t)(steps + 1) * sizeof *sync->recording);
}

// Scratch of equal layers lies at one address.
static void find_regions(Sync *sync)
{
	const Role *role = sync->role;
	int n = role->buffers.count;
	Numbers scratch = {0};
	sync->region = arena_alloc(sync->plan->arena, (size_t)(n + 1) * sizeof *sync->region);
	for (int i = 0; i < n; i++) {
		const Buffer *buffer = &role->buffers.at[i];
		sync->region[i] = i;
		for (int k = 0; k < scratch.count && buffer->class == CLASS_SCRATCH && sync->region[i] == i; k++) {
			const Buffer *other = &role->buffers.at[scratch.at[k]];
			if (other->offset == buffer->offset && other->bytes == buffer->bytes && other->slots == buffer->slots)
				sync->region[i] = scratch.at[k];
		}
		if (buffer->class == CLASS_SCRATCH && sync->region[i] == i)
			list_add(sync->plan->arena, &scratch, i);
	}
}

// By region: the streams that use it, a bit for each.
static unsigned char *find_users(const Sync *sync)
{
	const Role *role = sync->role;
	unsigned char *streams = arena_alloc(sync->plan->arena, (size_t)role->buffers.count + 1);
	for (int f = 0; f < role->functions.count; f++)
		for (int i = 0; i < role->functions.at[f].steps.count; i++) {
			const Step *step = &role->functions.at[f].steps.at[i];
			for (int k = 0; k < step->accesses.count; k++)
				streams[sync->region[step->accesses.at[k].buffer]] |= (unsigned char)(1 << step->stream);
		}
	return streams;
}

// Where equal layers divide rows, they do so alike; others that lie there may not.
static void find_parts(Sync *sync)
{
	const Role *role = sync->role;
	sync->ranks = arena_alloc(sync->plan->arena, (size_t)(role->buffers.count + 1) * sizeof *sync->ranks);
	sync->pieces = arena_alloc(sync->plan->arena, (size_t)(role->buffers.count + 1) * sizeof *sync->pieces);
	for (int i = 0; i < role->buffers.count; i++)
		sync->ranks[i] = sync->pieces[i] = 1;
	for (int f = 0; f < role->functions.count; f++)
		for (int i = 0; i < role->functions.at[f].steps.count; i++) {
			const Step *step = &role->functions.at[f].steps.at[i];
			for (int k = 0; k < step->accesses.count; k++) {
				const Access *access = &step->accesses.at[k];
				int region = sync->region[access->buffer];
				sync->ranks[region] = access->rows.ranks > sync->ranks[region] ? access->rows.ranks : sync->ranks[region];
				sync->pieces[region] = access->rows.pieces > sync->pieces[region] ? access->rows.pieces : sync->pieces[region];
			}
		}
}

static void add_overlap(Sync *sync, int region, int other, unsigned char users)
{
	for (int stream = 0; stream < STREAMS; stream++)
		if (users & 1 << stream)
			list_add(sync->plan->arena, &sync->overlaps[stream][region], other);
}

static void find_shared(Sync *sync)
{
	const Role *role = sync->role;
	int n = role->buffers.count;
	Arena *arena = sync->plan->arena;
	const unsigned char *users = find_users(sync);
	sync->shared = arena_alloc(arena, (size_t)n + 1);
	sync->first_part = arena_alloc(arena, (size_t)(n + 1) * sizeof *sync->first_part);
	for (int stream = 0; stream < STREAMS; stream++)
		sync->overlaps[stream] = arena_alloc(arena, (size_t)(n + 1) * sizeof *sync->overlaps[stream]);
	for (int i = 0; i < n; i++) {
		if (sync->region[i] != i)
			continue;
		sync->first_part[i] = sync->parts;
		sync->parts += role->buffers.at[i].slots * sync->ranks[i] * sync->pieces[i];
		sync->shared[i] |= (users[i] & (users[i] - 1)) != 0;
		for (int k = i + 1; k < n && lies_over(role, &role->buffers.at[i]); k++)
			if (sync->region[k] == k && lies_over(role, &role->buffers.at[k]) && ((users[i] | users[k]) & ~(1 << STREAM_COMPUTE))
			    && ranges_meet(&role->buffers.at[i], &role->buffers.at[k])) {
				sync->shared[i] = sync->shared[k] = true;
				add_overlap(sync, i, k, users[k]);
				add_overlap(sync, k, i, users[i]);
			}
	}
}

// ---- vector clocks

// The latest steps of a stream that used a part of a slot, counted from 1.
typedef struct {
	int use[STREAMS], write[STREAMS];
} Latest;

// The latest record of each instance of each edge's event: the clock of the recording stream then.
typedef struct {
	Clock now[STREAMS];
	Clock **records;        // by edge, then slot; at[own stream] is 0 where nothing was recorded
	Numbers issued[STREAMS]; // indices of instances, in order
	Latest *latest;         // by part of all regions
	int *owner;             // by region: the buffer that was used there last, as whose rows its parts count; -1: none yet
	int nccl[STREAMS];      // the latest NCCL call, counted from 1
} Progress;

static void join(Clock *clock, const Clock *other)
{
	for (int s = 0; s < STREAMS; s++)
		if (other->at[s] > clock->at[s])
			clock->at[s] = other->at[s];
}

static int slot_of(const Instance *instance, int argument, int slots)
{
	return slots == 1 ? 0 : instance->microbatch[argument] % slots;
}

static int step_number(const Sync *sync, const Instance *instance)
{
	return sync->first_code[instance->function] + code_of(sync, instance);
}

static void wait_edges(const Sync *sync, Progress *state, const Instance *instance, Stream stream)
{
	const Numbers *waiting = &sync->waiting[step_number(sync, instance)];
	for (int i = 0; i < waiting->count; i++) {
		const Edge *edge = &sync->edges.at[waiting->at[i]];
		if (!sync->dropped[waiting->at[i]] && (!edge->alone || edge->to_instance == instance->step))
			join(&state->now[stream], &state->records[waiting->at[i]][slot_of(instance, edge->to_argument, edge->slots)]);
	}
}

static bool same_message(const Message *a, const Message *b)
{
	return a->transfer == b->transfer && a->send == b->send;
}

// Which of a step's micro-batches it records the edge's event for; -1: it does not.
static int recorded_argument(const Sync *sync, const Edge *edge, int function, int step_index)
{
	const Step *step = &sync->role->functions.at[function].steps.at[step_index];
	if (!edge->message)
		return edge->from_function == function && edge->from_step == step->same_as ? edge->from_argument : -1;

	for (int i = 0; i < step->messages.count; i++)
		if (same_message(&step->messages.at[i], edge->message))
			return step->messages.at[i].argument;
	return -1;
}

static void record_edges(const Sync *sync, Progress *state, const Instance *instance, Stream stream)
{
	const Recording *recording = &sync->recording[step_number(sync, instance)];
	for (int i = 0; i < recording->count; i++) {
		int edge = recording->at[i].edge;
		state->records[edge][slot_of(instance, recording->at[i].argument, sync->edges.at[edge].slots)] = state->now[stream];
	}
}

// The message of a step that stands for the micro-batch `argument`.
static const Message *message_of(const Step *step, int argument)
{
	for (int i = 0; i < step->messages.count; i++)
		if (step->messages.at[i].argument == argument)
			return &step->messages.at[i];
	return NULL;
}

// Parts that an access uses of each slot in [from, to) of a region: [first, end) of those that a slot has.
typedef struct {
	int from, to, first, end;
} Span;

// Of rows that belong to another buffer there may be any among these bytes.
static Span span_of(const Sync *sync, const Progress *state, const Instance *instance, const Access *access, int region)
{
	int slots = sync->role->buffers.at[region].slots, pieces = sync->pieces[region];
	bool own = region == sync->region[access->buffer], all = slots == 1 || instance->whole || !own;
	int slot = all ? 0 : instance->microbatch[access->argument] % slots;
	const Rows *rows = &access->rows;
	if (!rows->ranks || !own || state->owner[region] != access->buffer)
		return (Span){slot, all ? slots : slot + 1, 0, sync->ranks[region] * pieces};
	assert(pieces % rows->pieces == 0);
	int begin = rows->rank * pieces, each = pieces / rows->pieces;
	return (Span){slot, all ? slots : slot + 1, begin + rows->piece * each, begin + (rows->piece + 1) * each};
}

static Latest *part_at(const Sync *sync, const Progress *state, int region, int slot, int part)
{
	return &state->latest[sync->first_part[region] + slot * sync->ranks[region] * sync->pieces[region] + part];
}

static int later(int a, int b)
{
	return a > b ? a : b;
}

// The latest step of `other`, counted from 1, that used what the access conflicts with; 0: none.
static int latest_conflict(const Sync *sync, const Progress *state, const Instance *instance, const Access *access, int region, Stream other)
{
	int latest = 0;
	Span span = span_of(sync, state, instance, access, region);
	for (int slot = span.from; slot < span.to; slot++)
		for (int part = span.first; part < span.end; part++) {
			const Latest *at = part_at(sync, state, region, slot, part);
			latest = later(latest, access->write ? at->use[other] : at->write[other]);
		}
	return latest;
}

// The latest step of stream `other` that conflicts with `instance` and is not ordered before it; false: none.
static bool find_conflict(const Sync *sync, const Progress *state, int list, const Instance *instance, Stream stream, Stream other, Edge *edge)
{
	if (state->issued[other].count <= state->now[stream].at[other])
		return false;
	const Step *step = step_of(sync, instance);
	int latest = is_nccl(step) ? state->nccl[other] : 0;
	for (int i = 0; i < step->accesses.count; i++) {
		const Access *access = &step->accesses.at[i];
		int region = sync->region[access->buffer];
		const Numbers *overlaps = &sync->overlaps[other][region];
		if (!sync->shared[region])
			continue;
		latest = later(latest, latest_conflict(sync, state, instance, access, region, other));
		for (int k = 0; k < overlaps->count; k++)
			latest = later(latest, latest_conflict(sync, state, instance, access, overlaps->at[k], other));
	}
	if (latest <= state->now[stream].at[other])
		return false;
	const Instance *earlier = &sync->lists[list].at[state->issued[other].at[latest - 1]];
	bool conflicts = conflict(sync, earlier, instance, edge);
	assert(conflicts);
	(void)conflicts;
	edge->from_function = earlier->function;
	edge->from_step = code_of(sync, earlier);
	edge->message = message_of(step_of(sync, earlier), edge->from_argument);
	edge->to_function = instance->function;
	edge->to_step = code_of(sync, instance);
	edge->to_instance = instance->step;
	return true;
}

// What used rows of another buffer there may have used any of these.
static void take_over(const Sync *sync, Progress *state, int buffer)
{
	int region = sync->region[buffer], parts = sync->ranks[region] * sync->pieces[region];
	for (int slot = 0; slot < sync->role->buffers.at[region].slots && state->owner[region] != buffer && parts > 1; slot++) {
		Latest all = {0};
		for (int part = 0; part < parts; part++)
			for (int s = 0; s < STREAMS; s++) {
				const Latest *at = part_at(sync, state, region, slot, part);
				all.use[s] = later(all.use[s], at->use[s]);
				all.write[s] = later(all.write[s], at->write[s]);
			}
		for (int part = 0; part < parts; part++)
			*part_at(sync, state, region, slot, part) = all;
	}
	state->owner[region] = buffer;
}

static void issue(const Sync *sync, Progress *state, const Instance *instance, int index, Stream stream)
{
	const Step *step = step_of(sync, instance);
	list_add(sync->plan->arena, &state->issued[stream], index);
	int number = state->now[stream].at[stream] = state->issued[stream].count;
	if (is_nccl(step))
		state->nccl[stream] = number;
	for (int i = 0; i < step->accesses.count; i++) {
		const Access *access = &step->accesses.at[i];
		int region = sync->region[access->buffer];
		if (!sync->shared[region])
			continue;
		take_over(sync, state, access->buffer);
		Span span = span_of(sync, state, instance, access, region);
		for (int slot = span.from; slot < span.to; slot++)
			for (int part = span.first; part < span.end; part++) {
				Latest *at = part_at(sync, state, region, slot, part);
				at->use[stream] = number;
				if (access->write)
					at->write[stream] = number;
			}
	}
}

static void index_edge(Sync *sync, int number)
{
	const Edge *edge = &sync->edges.at[number];
	const Role *role = sync->role;
	list_add(sync->plan->arena, &sync->waiting[sync->first_code[edge->to_function] + edge->to_step], number);
	for (int f = 0; f < role->functions.count; f++)
		for (int i = 0; i < role->functions.at[f].steps.count; i++) {
			int argument = role->functions.at[f].steps.at[i].same_as == i ? recorded_argument(sync, edge, f, i) : -1;
			if (argument < 0)
				continue;
			Recording *recording = &sync->recording[sync->first_code[f] + i];
			RecordedEdge recorded = {number, argument};
			list_add(sync->plan->arena, recording, recorded);
		}
}

static void add_edge(Sync *sync, Progress *state, Edge edge)
{
	list_add(sync->plan->arena, &sync->edges, edge);
	bool *dropped = arena_alloc(sync->plan->arena, (size_t)sync->edges.count);
	Clock **records = arena_alloc(sync->plan->arena, (size_t)sync->edges.count * sizeof *records);
	if (sync->edges.count > 1) {
		memcpy(dropped, sync->dropped, (size_t)sync->edges.count - 1);
		memcpy(records, state->records, ((size_t)sync->edges.count - 1) * sizeof *records);
	}
	records[sync->edges.count - 1] = arena_alloc(sync->plan->arena, (size_t)edge.slots * sizeof **records);
	index_edge(sync, sync->edges.count - 1);
	sync->dropped = dropped;
	state->records = records;
}

// Runs one list. Conflicts that nothing orders become edges when `repair`; returns whether there were any.
static bool run_list(Sync *sync, int list, bool repair)
{
	Progress state = {.latest = arena_alloc(sync->plan->arena, (size_t)(sync->parts + 1) * sizeof *state.latest),
	                  .owner = arena_alloc(sync->plan->arena, (size_t)(sync->role->buffers.count + 1) * sizeof *state.owner)};
	for (int i = 0; i < sync->role->buffers.count; i++)
		state.owner[i] = -1;
	state.records = arena_alloc(sync->plan->arena, (size_t)(sync->edges.count + 1) * sizeof *state.records);
	for (int e = 0; e < sync->edges.count; e++)
		state.records[e] = arena_alloc(sync->plan->arena, (size_t)sync->edges.at[e].slots * sizeof(Clock));
	bool found = false;
	for (int i = 0; i < sync->lists[list].count; i++) {
		const Instance *instance = &sync->lists[list].at[i];
		Stream stream = step_of(sync, instance)->stream;
		wait_edges(sync, &state, instance, stream);
		for (int other = 0; other < STREAMS; other++) {
			Edge edge;
			if (other == (int)stream || !find_conflict(sync, &state, list, instance, stream, other, &edge))
				continue;
			found = true;
			if (!repair)
				return true;
			add_edge(sync, &state, edge); // its record lies behind us: the next run has it
			state.now[stream].at[other] = state.issued[other].count;
		}
		issue(sync, &state, instance, i, stream);
		record_edges(sync, &state, instance, stream);
	}
	return found;
}

static bool any_conflict(Sync *sync)
{
	return run_list(sync, 0, false) || run_list(sync, 1, false) || run_list(sync, 2, false);
}

static void find_edges(Sync *sync)
{
	for (bool found = true; found;)
		found = run_list(sync, 0, true) + run_list(sync, 1, true) + run_list(sync, 2, true) > 0;
	for (int e = sync->edges.count - 1; e >= 0; e--) {
		sync->dropped[e] = true;
		if (any_conflict(sync))
			sync->dropped[e] = false;
	}
}

// Whether equal layers share the step.
static bool in_loop(const Sync *sync, int function, int step)
{
	const Function *f = &sync->role->functions.at[function];
	for (int i = 0; i < f->loops.count; i++)
		if (step >= f->loops.at[i].first && step < f->loops.at[i].first + f->loops.at[i].steps)
			return true;
	return false;
}

// What layers make and wait for in one function is seldom of one layer alone, and not worth a try.
static bool may_be_alone(const Sync *sync, const Edge *edge)
{
	bool of_layers = !edge->message && edge->from_function == edge->to_function && in_loop(sync, edge->from_function, edge->from_step);
	return in_loop(sync, edge->to_function, edge->to_step) && !of_layers;
}

static void narrow_edges(Sync *sync)
{
	for (int e = 0; e < sync->edges.count; e++) {
		Edge *edge = &sync->edges.at[e];
		if (sync->dropped[e] || !may_be_alone(sync, edge))
			continue;
		edge->alone = true;
		edge->alone = !any_conflict(sync);
	}
}

// ---- events

typedef LIST(const Edge *) Sources;

static const char *event_name(const Sync *sync, const Edge *edge)
{
	const Step *step = &sync->role->functions.at[edge->from_function].steps.at[edge->from_step];
	const char *what = step->kind == STEP_COLLECTIVE && !in_loop(sync, edge->from_function, edge->from_step) ? step->nodes.at[0]->in[0]->name : step->name, *done = "READY";
	if (edge->message) {
		what = edge->message->transfer->tensor->name;
		done = edge->message->send ? "SENT" : "ARRIVED";
	} else if (step->kind == STEP_COLLECTIVE)
		done = step->nodes.at[0]->op == OP_ALL_REDUCE || step->nodes.at[0]->op == OP_REDUCE_SCATTER ? "REDUCED"
		     : step->nodes.at[0]->op == OP_SHIFT ? "ARRIVED" : "GATHERED";
	char *name = arena_printf(sync->plan->arena, "%s_%s", what, done);
	for (char *c = name; *c; c++) {
		if (*c >= 'a' && *c <= 'z')
			*c = (char)(*c - 'a' + 'A');
		else if (!(*c >= 'A' && *c <= 'Z') && !(*c >= '0' && *c <= '9'))
			*c = '_';
	}
	for (int i = 0; i < sync->role->events.count; i++)
		if (!strcmp(sync->role->events.at[i].name, name))
			name = arena_printf(sync->plan->arena, "%s_AGAIN", name);
	return name;
}

static bool same_source(const Edge *a, const Edge *b)
{
	if (a->slots != b->slots || !a->message != !b->message)
		return false;
	if (a->message)
		return same_message(a->message, b->message);
	return a->from_function == b->from_function && a->from_step == b->from_step && (a->from_argument == b->from_argument || a->slots == 1);
}

// Every step that delivers what the edge waits for records its event.
static void add_records(Sync *sync, const Edge *edge, int event)
{
	for (int f = 0; f < sync->role->functions.count; f++)
		for (int i = 0; i < sync->role->functions.at[f].steps.count; i++) {
			Record record = {event, recorded_argument(sync, edge, f, i)};
			if (record.argument >= 0)
				list_add(sync->plan->arena, &sync->role->functions.at[f].steps.at[i].records, record);
		}
}

// sources: by event, an edge that waits for it.
static int event_for(Sync *sync, const Edge *edge, Sources *sources)
{
	Role *role = sync->role;
	for (int i = 0; i < sources->count; i++)
		if (same_source(sources->at[i], edge))
			return i;
	Event event = {event_name(sync, edge), edge->slots, role->event_instances};
	role->event_instances += edge->slots;
	list_add(sync->plan->arena, &role->events, event);
	list_add(sync->plan->arena, sources, edge);
	add_records(sync, edge, role->events.count - 1);
	return role->events.count - 1;
}

static void write_events(Sync *sync)
{
	Sources sources = {0};
	for (int e = 0; e < sync->edges.count; e++) {
		const Edge *edge = &sync->edges.at[e];
		if (sync->dropped[e])
			continue;
		Wait wait = {event_for(sync, edge, &sources), edge->to_argument, edge->alone ? edge->to_instance : -1};
		Function *function = &sync->role->functions.at[edge->to_function];
		for (int i = edge->to_step; i < function->steps.count; i++)
			if (function->steps.at[i].same_as == edge->to_step)
				list_add(sync->plan->arena, &function->steps.at[i].waits, wait);
	}
}

static void remove_fork_and_join(Actions *list)
{
	int kept = 0;
	for (int i = 0; i < list->count; i++)
		if (list->at[i].function != FUNCTION_BEGIN && list->at[i].function != FUNCTION_END)
			list->at[kept++] = list->at[i];
	list->count = kept;
}

// The fork and the join of a step: one event of compute, one of each other stream. On one stream there is neither.
static void fork_and_join(Sync *sync)
{
	static const char *const names[] = {"STEP_BEGUN", "SIDE_STREAM_DONE", "DP_STREAM_DONE", "TP_STREAM_DONE", "PP_STREAM_DONE"};
	Role *role = sync->role;
	for (int f = 0; f < role->functions.count; f++)
		for (int i = 0; i < role->functions.at[f].steps.count; i++)
			role->uses[role->functions.at[f].steps.at[i].stream] = true;
	bool others = false;
	for (int s = STREAM_COMPUTE + 1; s < STREAMS; s++)
		others |= role->uses[s];
	if (!others) {
		remove_fork_and_join(&role->train);
		remove_fork_and_join(&role->evaluate);
		remove_fork_and_join(&role->infer);
	}
	for (int s = 0; s < STREAMS; s++) {
		if (!(s == STREAM_COMPUTE ? others : role->uses[s]))
			continue;
		Event event = {names[s], 1, role->event_instances++};
		list_add(sync->plan->arena, &role->events, event);
	}
}

void synchronise(Plan *plan)
{
	for (int s = 0; s < plan->stages; s++) {
		Role *role = &plan->roles[s];
		Sync sync = {.plan = plan, .role = role};
		number_steps(&sync);
		find_regions(&sync);
		find_parts(&sync);
		find_shared(&sync);
		unroll(&sync, 0, &role->train);
		unroll(&sync, 1, &role->evaluate);
		unroll(&sync, 2, &role->infer);
		find_edges(&sync);
		narrow_edges(&sync);
		assert(!any_conflict(&sync));
		write_events(&sync);
		fork_and_join(&sync);
	}
}
