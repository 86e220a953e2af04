// runtime/cuda/engines.c on streams that keep what it enqueues (fake/cuda.c): random lists of collectives run as graphs do, step for step with
// the same values, and ranks take turns at random, as few of them as possible, or one as far behind or ahead as it can be. Data are
// written before each collective and checked behind it, in memory that the collectives share, so that what comes too early or too
// late is seen. Ranks that all wait are a failure, too. So it is with messages between stages, whose ranks have several streams.
//   cc -std=c11 -g -fsanitize=address,undefined -Iruntime/host -Iruntime -Iruntime/cuda -Itests/cuda/fake tests/cuda/engines_test.c
//      tests/cuda/fake/cuda.c runtime/cuda/engines.c -lpthread
#define _GNU_SOURCE
#include "cuda.h"

#include <assert.h>
#include <string.h>

enum { RANKS = 8, COLLECTIVES = 2200, LISTS = 2, STEPS = 7, MEMORY = 16384, MARGIN = 16, JUNK = 0x5a, MESSAGES = 6, LONGEST = 200 };

enum kind { ALL_REDUCE, REDUCE_SCATTER, ALL_GATHER, SHIFT, KINDS, EXCHANGE = KINDS };
static const char *const names[] = {"all_reduce", "reduce_scatter", "all_gather", "shift", "messages"};

struct message {
	int from, to;                   // ranks
	size_t bytes;
};

struct collective {
	enum kind kind;
	enum mp_type type;
	size_t bytes;
	bool own, in_place;             // in_place: what a rank gives to a gather, or gets of a scatter, is its part of the whole
	int by;
	size_t from, to;                // in every arena, from its start; the same for all_reduce
	struct message messages[MESSAGES];      // EXCHANGE
	int count;
};

struct list {
	struct collective at[COLLECTIVES];
	int count;
	struct fake_operation *operations[RANKS][FAKE_LANES];
	int operation_count[RANKS][FAKE_LANES];
};

// Which rank goes on. RANKED: the first in an order that now and then is another.
struct schedule {
	enum { ANY, RANKED, LAST, FIRST } kind;
	int rank;
};

// Where a rank is: in which step, and of each stream at which operation and how much of that is done.
struct place {
	int step, operation[FAKE_LANES];
	size_t done[FAKE_LANES];
};

struct world {
	int ranks;
	size_t incoming, data;          // bytes behind the flags of the exchange; where in every arena the data are
	struct ncclComm comm;
	struct mp_model model;
	enum mp_axis axis;
	struct mp_options options;
	struct mp_rank rank[RANKS];
	struct CUstream_st stream[RANKS];
	struct mp_engines *engines[RANKS];
	struct list lists[LISTS];
	int steps[STEPS];               // which list each step is
	struct place place[RANKS];
};

static struct mp_program programs[RANKS];       // of stages; all others have the first
static const struct mp_program *program_of(int stage) { return &programs[stage]; }

static unsigned below(unsigned n)
{
	static uint64_t state = 88172645463325252u;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (unsigned)((state >> 16) % n);
}

// ---------------------------------------------------------------------------------------------------------
// Ranks

struct opening {
	struct world *w;
	int rank;
	enum fake_lack lack;
};

static void *open_rank(void *argument)
{
	const struct opening *o = argument;

	fake_device = o->rank;
	fake_own = &o->w->stream[o->rank];
	fake_lack = o->lack;
	o->w->engines[o->rank] = mp_engines_open(&o->w->rank[o->rank], o->w->axis);
	return NULL;
}

// Between it and the data nothing is written.
static char *exchange_end(const struct world *w, int rank)
{
	const struct mp_rank *r = &w->rank[rank];
	return r->arena + r->program->exchange[w->axis].offset + r->program->exchange[w->axis].bytes;
}

static void make_rank(struct world *w, int rank, size_t bytes)
{
	struct mp_rank *r = &w->rank[rank];
	struct CUstream_st *s = &w->stream[rank];

	*r = (struct mp_rank){.model = &w->model, .program = program_of(w->axis == MP_PP ? rank : 0), .options = &w->options};
	r->arena = mp_allocate(bytes);
	memset(r->arena, JUNK, r->program->exchange[w->axis].offset);
	memset(exchange_end(w, rank), JUNK, (size_t)(r->arena + w->data - exchange_end(w, rank)));
	*s = (struct CUstream_st){.rank = rank, .lanes = {s}, .flags = r->arena + r->program->exchange[w->axis].offset, .flag_bytes = MP_EXCHANGE_FLAGS / 2};
	*(w->axis == MP_DP ? &r->dp : w->axis == MP_TP ? &r->tp : &r->pp) = rank;
	*(w->axis == MP_DP ? &r->dp_comm : w->axis == MP_TP ? &r->tp_comm : &r->pp_comm) = &w->comm;
	*(w->axis == MP_DP ? &r->dp_stream : w->axis == MP_TP ? &r->tp_stream : &r->pp_stream) = s;
}

// Ranks of the axis, with fresh arenas; one of them lacks something. The exchanges of stages lie at different places.
static void open_world(struct world *w, int ranks, size_t incoming, enum mp_axis axis, enum fake_lack lack)
{
	struct opening openings[RANKS];
	pthread_t threads[RANKS];

	*w = (struct world){.ranks = ranks, .incoming = incoming, .comm.ranks = ranks, .axis = axis, .model = {.axis = {1, 1, 1}, .program = program_of}};
	w->model.axis[axis] = ranks;
	w->data = (RANKS + 1) * MP_ALIGN + MP_EXCHANGE_FLAGS + incoming;
	pthread_barrier_init(&w->comm.barrier, NULL, (unsigned)ranks);
	for (int rank = 0; rank < ranks; rank++) {
		programs[rank] = (struct mp_program){.name = "program"};
		programs[rank].exchange[axis].offset = (size_t)(1 + rank) * MP_ALIGN;
		programs[rank].exchange[axis].bytes = MP_EXCHANGE_FLAGS + incoming;
		make_rank(w, rank, w->data + MEMORY);
		openings[rank] = (struct opening){w, rank, rank == ranks - 1 ? lack : FAKE_NOTHING};
		if (lack == FAKE_OWN_DEVICE && ranks > 2) // two of several share one
			openings[rank].lack = rank == 1 ? lack : FAKE_NOTHING;
	}
	for (int rank = 0; rank < ranks; rank++)
		CHECK(!pthread_create(&threads[rank], NULL, open_rank, &openings[rank]), "no thread");
	for (int rank = 0; rank < ranks; rank++)
		pthread_join(threads[rank], NULL);
	pthread_barrier_destroy(&w->comm.barrier);
}

static void check_around_exchange(const struct world *w, int rank)
{
	const char *arena = w->rank[rank].arena, *data = arena + w->data, *exchange = arena + w->rank[rank].program->exchange[w->axis].offset;

	for (const char *at = arena; at < data; at++)
		CHECK((at >= exchange && at < exchange_end(w, rank)) || *at == JUNK, "%d ranks: rank %d has %d at %td, outside the exchange", w->ranks, rank, *at,
		      at - arena);
}

static void close_world(struct world *w)
{
	for (int rank = 0; rank < w->ranks; rank++) {
		mp_engines_close(w->engines[rank]);
		free(w->rank[rank].arena);
		for (int list = 0; list < LISTS; list++)
			for (int lane = 0; lane < FAKE_LANES; lane++)
				free(w->lists[list].operations[rank][lane]);
	}
	CHECK(fake_mapped == 0, "%d arenas are still mapped", fake_mapped);
}

// ---------------------------------------------------------------------------------------------------------
// Data

// Where what a rank gives, or gets, begins and how long it is.
static size_t given(const struct world *w, const struct collective *c, int rank, size_t *bytes)
{
	*bytes = c->kind == REDUCE_SCATTER ? (size_t)w->ranks * c->bytes : c->bytes;
	return c->kind == ALL_GATHER && c->in_place ? c->to + (size_t)rank * c->bytes : c->from;
}

static size_t taken(const struct world *w, const struct collective *c, int rank, size_t *bytes)
{
	*bytes = c->kind == ALL_GATHER ? (size_t)w->ranks * c->bytes : c->bytes;
	return c->kind == REDUCE_SCATTER && c->in_place ? c->from + (size_t)rank * c->bytes : c->to;
}

// Bytes behind what a rank gets that must stay as they are.
static size_t margin(const struct collective *c) { return c->kind == REDUCE_SCATTER && c->in_place ? 0 : MARGIN; }

// What a rank gives in the collective of a step.
static char value(int step, int collective, int rank, size_t at)
{
	uint64_t x = ((uint64_t)(step * COLLECTIVES + collective) * RANKS + (uint64_t)rank) << 16 | at;
	return (char)(x * 0x9e3779b97f4a7c15u >> 56);
}

// Where a message comes from, and goes to, of those that are under way together.
static size_t sent_at(const struct collective *c, int message) { return c->from + (size_t)message * (LONGEST + MARGIN); }
static size_t received_at(const struct collective *c, int message) { return c->to + (size_t)message * (LONGEST + MARGIN); }

static void write_messages(const struct world *w, const struct collective *c, int collective, int rank, int step)
{
	for (int i = 0; i < c->count; i++) {
		const struct message *m = &c->messages[i];
		for (size_t at = 0; m->from == rank && at < m->bytes; at++)
			w->rank[rank].arena[sent_at(c, i) + at] = value(step, collective, rank, sent_at(c, i) + at);
		if (m->to == rank)
			memset(w->rank[rank].arena + received_at(c, i), JUNK, m->bytes + MARGIN);
	}
}

static void check_messages(const struct world *w, const struct collective *c, int collective, int rank, int step)
{
	for (int i = 0; i < c->count; i++) {
		const struct message *m = &c->messages[i];
		for (size_t at = 0; m->to == rank && at < m->bytes + MARGIN; at++) {
			char right = at < m->bytes ? value(step, collective, m->from, sent_at(c, i) + at) : JUNK, is = w->rank[rank].arena[received_at(c, i) + at];
			CHECK(is == right, "%d ranks: rank %d, step %d, message %d of collective %d, from rank %d: byte %zu is %d, not %d", w->ranks, rank, step, i,
			      collective, m->from, at, is, right);
		}
	}
}

static void write_data(const struct world *w, const struct list *list, int collective, int rank, int step)
{
	const struct collective *c = &list->at[collective];
	char *arena = w->rank[rank].arena;
	size_t bytes, to = taken(w, c, rank, &bytes);

	if (c->kind == EXCHANGE) {
		write_messages(w, c, collective, rank, step);
		return;
	}
	memset(arena + to, JUNK, bytes + margin(c));
	size_t from = given(w, c, rank, &bytes);
	for (size_t i = 0; i < bytes; i++)
		arena[from + i] = value(step, collective, rank, i);
}

// Byte `at` of what a rank gets.
static char expected(const struct world *w, const struct list *list, int collective, int rank, int step, size_t at)
{
	const struct collective *c = &list->at[collective];
	size_t width = mp_type_bytes(c->type), first = at / width * width;
	uint64_t sum = 0;

	if (c->kind == ALL_GATHER)
		return value(step, collective, (int)(at / c->bytes), at % c->bytes);
	if (c->kind == SHIFT)
		return value(step, collective, (rank + w->ranks - c->by) % w->ranks, at);
	if (c->kind == REDUCE_SCATTER)
		first += (size_t)rank * c->bytes;
	for (int of = 0; of < w->ranks; of++) {
		char element[8];
		for (size_t i = 0; i < width; i++)
			element[i] = value(step, collective, of, first + i);
		sum = fake_add(sum, fake_element(element, c->type));
	}
	return (char)(sum >> at % width * 8);
}

static void check_data(const struct world *w, const struct list *list, int collective, int rank, int step)
{
	const struct collective *c = &list->at[collective];
	const char *arena = w->rank[rank].arena;
	size_t bytes, to = taken(w, c, rank, &bytes), end = bytes + margin(c);

	if (c->kind == EXCHANGE) {
		check_messages(w, c, collective, rank, step);
		return;
	}
	for (size_t i = 0; i < end; i++) {
		bool left = c->kind == ALL_GATHER && !c->own && i < bytes && i / c->bytes == (size_t)rank;
		char right = i < bytes ? expected(w, list, collective, rank, step, i) : JUNK;
		CHECK(left || arena[to + i] == right, "%d ranks: rank %d, step %d, collective %d (%s of %zu bytes): byte %zu is %d, not %d", w->ranks, rank,
		      step, collective, names[c->kind], c->bytes, i, arena[to + i], right);
	}
}

// ---------------------------------------------------------------------------------------------------------
// Lists

static struct collective random_collective(const struct world *w, enum kind kind)
{
	static const enum mp_type types[] = {MP_F32, MP_F64, MP_BF16};
	struct collective c = {.kind = kind, .type = types[below(3)], .own = below(2), .in_place = below(2), .by = 1 + (int)below((unsigned)w->ranks - 1)};
	size_t width = mp_type_bytes(c.type), ranks = (size_t)w->ranks, part = w->incoming / (ranks - 1), bytes, gap;

	switch (kind) {
	case ALL_REDUCE: c.bytes = (1 + below((unsigned)(4 * ranks * part / width))) * width; break; // several pieces
	case REDUCE_SCATTER: c.bytes = (1 + below((unsigned)(part / width))) * width; break;
	default: c.bytes = 1 + below(300);
	}
	taken(w, &c, 0, &bytes);
	gap = kind == ALL_REDUCE ? 0 : (bytes + MARGIN + 15) / 16 * 16;
	c.to = w->data + width * below(64);
	c.from = c.to + gap;
	return c;
}

// Several between the same two, too.
static struct collective random_messages(const struct world *w)
{
	struct collective c = {.kind = EXCHANGE, .count = 1 + (int)below(MESSAGES), .from = w->data + 4 * below(100)};

	c.to = c.from + MESSAGES * (LONGEST + MARGIN);
	for (int i = 0; i < c.count; i++) {
		int from = (int)below((unsigned)w->ranks), by = 1 + (int)below((unsigned)w->ranks - 1);
		c.messages[i] = (struct message){from, (from + by) % w->ranks, 2 * (1 + below(LONGEST / 2))};
	}
	return c;
}

static void random_list(const struct world *w, struct list *list)
{
	unsigned of = below(4); // all kinds, any one, one of all kinds, one shift alone or several

	list->count = of == 0 ? 1 + (int)below(8) : of == 1 ? 1 + (int)below(4) : 1 + (int)below(2);
	enum kind only = of == 3 ? SHIFT : (enum kind)below(KINDS);
	for (int i = 0; i < list->count; i++)
		list->at[i] = w->axis == MP_PP ? random_messages(w) : random_collective(w, of % 2 ? only : (enum kind)below(KINDS));
}

// Shifts by 1 but for two by 2, `apart` collectives from one another.
static void long_list(const struct world *w, struct list *list, int apart)
{
	struct collective c = random_collective(w, SHIFT);

	list->count = apart + 10;
	for (int i = 0; i < list->count; i++) {
		list->at[i] = c;
		list->at[i].by = i == 5 || i == 5 + apart ? 2 : 1;
	}
}

// Ranks list them in different orders; those from one rank to another keep theirs.
static void enqueue_messages(const struct world *w, const struct collective *c, int rank)
{
	struct mp_message messages[MESSAGES];
	int count = 0;

	for (int turn = 0; turn < 2; turn++)
		for (int i = 0; i < c->count; i++) {
			const struct message *m = &c->messages[i];
			bool send = m->from == rank, sends = (turn + rank) % 2;
			char *arena = w->rank[rank].arena;
			if (send && sends)
				messages[count++] = (struct mp_message){arena + sent_at(c, i), (long)m->bytes / 2, MP_BF16, m->to, true, received_at(c, i)};
			if (m->to == rank && !sends)
				messages[count++] = (struct mp_message){arena + received_at(c, i), (long)m->bytes / 2, MP_BF16, m->from, false, 0};
		}
	if (count)
		mp_engines_messages(w->engines[rank], messages, count);
}

static void enqueue(const struct world *w, const struct collective *c, int rank)
{
	struct mp_engines *e = w->engines[rank];
	char *arena = w->rank[rank].arena;
	size_t bytes;
	char *from = arena + given(w, c, rank, &bytes), *to = arena + taken(w, c, rank, &bytes);

	switch (c->kind) {
	case ALL_REDUCE: mp_engines_all_reduce(e, to, c->bytes, c->type); break;
	case REDUCE_SCATTER: mp_engines_reduce_scatter(e, from, to, c->bytes, c->type); break;
	case ALL_GATHER: mp_engines_all_gather(e, from, to, c->bytes, c->own); break;
	case SHIFT: mp_engines_shift(e, from, to, c->bytes, c->by); break;
	default: enqueue_messages(w, c, rank);
	}
}

// As a step is captured in a graph, between what writes and what reads the data.
static void keep_list(struct world *w, struct list *list, int rank)
{
	struct CUstream_st *s = &w->stream[rank];

	s->keeps = true;
	mp_engines_begin(w->engines[rank]);
	for (s->collective = 0; s->collective < list->count; s->collective++) {
		fake_enqueue(s, (struct fake_operation){.kind = FAKE_WRITE});
		enqueue(w, &list->at[s->collective], rank);
		fake_enqueue(s, (struct fake_operation){.kind = FAKE_CHECK});
	}
	for (int lane = 0; lane < FAKE_LANES && s->lanes[lane]; lane++) {
		struct CUstream_st *of = s->lanes[lane];
		list->operations[rank][lane] = of->operations;
		list->operation_count[rank][lane] = of->count;
		of->operations = NULL;
		of->count = of->room = 0;
	}
}

// ---------------------------------------------------------------------------------------------------------
// Running

static const struct list *list_of(const struct world *w, int rank)
{
	return &w->lists[w->steps[w->place[rank].step]];
}

// NULL: the stream has done all of the step.
static const struct fake_operation *next_of(const struct world *w, int rank, int lane)
{
	const struct list *list = list_of(w, rank);
	int operation = w->place[rank].operation[lane];
	return operation < list->operation_count[rank][lane] ? &list->operations[rank][lane][operation] : NULL;
}

static bool lane_can_go_on(const struct world *w, int rank, int lane)
{
	const struct fake_operation *o = next_of(w, rank, lane);

	if (o && o->kind == FAKE_JOIN)
		return w->place[rank].operation[o->lane] >= o->passed;
	return o && (o->kind != FAKE_WAIT || *(const uint32_t *)o->to == o->value);
}

static bool can_go_on(const struct world *w, int rank)
{
	bool can = false;
	for (int lane = 0; w->place[rank].step < STEPS && lane < FAKE_LANES; lane++)
		can = can || lane_can_go_on(w, rank, lane);
	return can;
}

// A part of a large copy or sum, or the whole of any other operation. A step has ended when all streams of the rank have.
static void go_on(struct world *w, int rank)
{
	struct place *p = &w->place[rank];
	const struct list *list = list_of(w, rank);
	int lane = w->axis == MP_PP ? (int)below(FAKE_LANES) : 0;

	while (!lane_can_go_on(w, rank, lane))
		lane = (lane + 1) % FAKE_LANES;
	const struct fake_operation *o = next_of(w, rank, lane);
	if (o->kind == FAKE_WRITE)
		write_data(w, list, o->collective, rank, p->step);
	else if (o->kind == FAKE_CHECK)
		check_data(w, list, o->collective, rank, p->step);
	else if (o->kind != FAKE_WAIT && o->bytes) {
		size_t left = (o->bytes - p->done[lane]) / 8, end = left ? p->done[lane] + 8 * (1 + below((unsigned)left)) : o->bytes;
		fake_run(o, p->done[lane], end);
		p->done[lane] = end;
		if (end < o->bytes)
			return;
	}
	p->done[lane] = 0;
	p->operation[lane]++;
	for (int other = 0; other < FAKE_LANES; other++)
		if (next_of(w, rank, other))
			return;
	*p = (struct place){.step = p->step + 1};
}

static void say_stuck(const struct world *w)
{
	for (int rank = 0; rank < w->ranks; rank++) {
		const struct place *p = &w->place[rank];
		if (p->step == STEPS) {
			fprintf(stderr, "rank %d is done\n", rank);
			continue;
		}
		for (int lane = 0; lane < FAKE_LANES; lane++) {
			const struct fake_operation *o = next_of(w, rank, lane);
			if (o && o->kind == FAKE_WAIT)
				fprintf(stderr, "%d ranks: rank %d waits for ever, step %d, collective %d (%s): the flag at %td is %u, not %u\n", w->ranks, rank, p->step,
				        o->collective, names[list_of(w, rank)->at[o->collective].kind], o->to - w->rank[rank].arena, *(const uint32_t *)o->to, o->value);
		}
	}
	_Exit(1);
}

// One of those that can go on, which are `count`.
static int choose(const struct world *w, const struct schedule *schedule, const bool *can, int count, const int *order)
{
	int chosen = 0;

	if (schedule->kind == FIRST && can[schedule->rank])
		return schedule->rank;
	if (schedule->kind == RANKED) {
		while (!can[order[chosen]])
			chosen++;
		return order[chosen];
	}
	bool spares = schedule->kind == LAST && can[schedule->rank] && count > 1;
	for (int skip = (int)below((unsigned)(count - spares)); ; chosen++)
		if (can[chosen] && !(spares && chosen == schedule->rank) && skip-- == 0)
			break;
	assert(chosen < w->ranks);
	return chosen;
}

static void run_steps(struct world *w, struct schedule schedule)
{
	int order[RANKS] = {0, 1, 2, 3, 4, 5, 6, 7};

	for (;;) {
		bool can[RANKS];
		int count = 0, done = 0;
		for (int rank = 0; rank < w->ranks; rank++) {
			done += w->place[rank].step == STEPS;
			count += can[rank] = can_go_on(w, rank);
		}
		if (done == w->ranks)
			return;
		if (count == 0)
			say_stuck(w);
		if (below(64) == 0)
			for (int i = w->ranks - 1; i > 0; i--) {
				int other = (int)below((unsigned)i + 1), kept = order[i];
				order[i] = order[other];
				order[other] = kept;
			}
		go_on(w, choose(w, &schedule, can, count, order));
	}
}

// Fresh ranks, the first step of which finds no flags told, and steps of two lists; `apart`: one of them is long.
static void check_steps(struct world *w, int ranks, struct schedule schedule, int apart)
{
	open_world(w, ranks, (size_t)(ranks - 1) * 16 * (1 + below(5)), apart ? MP_TP : (enum mp_axis)below(MP_AXES), FAKE_NOTHING);
	for (int list = 0; list < LISTS; list++) {
		if (apart && list == 0)
			long_list(w, &w->lists[list], apart);
		else
			random_list(w, &w->lists[list]);
	}
	for (int step = 0; step < STEPS; step++)
		w->steps[step] = (int)below(LISTS);
	for (int rank = 0; rank < ranks; rank++) {
		CHECK(w->engines[rank], "rank %d of %d goes by NCCL", rank, ranks);
		for (int list = 0; list < LISTS; list++)
			keep_list(w, &w->lists[list], rank);
	}
	run_steps(w, schedule);
	for (int rank = 0; rank < ranks; rank++)
		check_around_exchange(w, rank);
	close_world(w);
}

// Where one rank cannot, none goes by copy engines.
static void check_refusals(struct world *w, int ranks)
{
	for (enum fake_lack lack = FAKE_OWN_DEVICE; lack < FAKE_LACKS; lack++) {
		open_world(w, ranks, 1024, MP_DP, lack);
		for (int rank = 0; rank < ranks; rank++)
			CHECK(!w->engines[rank], "rank %d of %d does not go by NCCL where one lacks %d", rank, ranks, (int)lack);
		close_world(w);
	}
}

int main(void)
{
	static const int sizes[] = {2, 3, 4, 8};
	struct world *w = mp_allocate(sizeof *w);

	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		int ranks = sizes[i];
		for (int time = 0; time < 96 / ranks; time++) {
			for (int even = 0; even < ranks; even++)
				check_steps(w, ranks, (struct schedule){even % 2 ? ANY : RANKED, 0}, 0);
			for (int rank = 0; rank < ranks; rank++) {
				check_steps(w, ranks, (struct schedule){LAST, rank}, 0);
				check_steps(w, ranks, (struct schedule){FIRST, rank}, 0);
			}
		}
		check_refusals(w, ranks);
	}
	for (int apart = 2045; apart <= 2048; apart++) // as many collectives as there are values
		for (int rank = 0; rank < 3; rank++) {
			check_steps(w, 3, (struct schedule){LAST, rank}, apart);
			check_steps(w, 3, (struct schedule){FIRST, rank}, apart);
		}
	free(w);
	printf("ok engines\n");
	return 0;
}
