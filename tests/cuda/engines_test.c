// runtime/cuda/engines.c on streams that keep what it enqueues (fake/cuda.c): random lists of collectives run as graphs do, step for step with
// the same values, and ranks take turns at random, as few of them as possible, or one as far behind or ahead as it can be. Data are
// written before each collective and checked behind it, in memory that the collectives share, so that what comes too early or too
// late is seen. Ranks that all wait are a failure, too.
//   cc -std=c11 -g -fsanitize=address,undefined -Iruntime/host -Iruntime -Iruntime/cuda -Itests/cuda/fake tests/cuda/engines_test.c
//      tests/cuda/fake/cuda.c runtime/cuda/engines.c -lpthread
#define _GNU_SOURCE
#include "cuda.h"

#include <assert.h>
#include <string.h>

enum { RANKS = 8, COLLECTIVES = 2200, LISTS = 2, STEPS = 7, MEMORY = 16384, MARGIN = 16, JUNK = 0x5a };

enum kind { ALL_REDUCE, REDUCE_SCATTER, ALL_GATHER, SHIFT, KINDS };
static const char *const names[KINDS] = {"all_reduce", "reduce_scatter", "all_gather", "shift"};

struct collective {
	enum kind kind;
	enum mp_type type;
	size_t bytes;
	bool own, in_place;             // in_place: what a rank gives or gets is its part of the whole
	int by;
	size_t from, to;                // in every arena, from its start; the same for all_reduce
};

struct list {
	struct collective at[COLLECTIVES];
	int count;
	struct fake_operation *operations[RANKS];
	int operation_count[RANKS];
};

// Which rank goes on. RANKED: the first in an order that now and then is another.
struct schedule {
	enum { ANY, RANKED, LAST, FIRST } kind;
	int rank;
};

// Where a rank is: in which step, at which of its operations, and how much of that is done.
struct place {
	int step, operation;
	size_t done;
};

struct world {
	int ranks;
	size_t incoming;                // bytes behind the flags of the exchange
	struct ncclComm comm;
	struct mp_model model;
	struct mp_program program;
	struct mp_options options;
	struct mp_rank rank[RANKS];
	struct CUstream_st stream[RANKS];
	struct mp_engines *engines[RANKS];
	struct list lists[LISTS];
	int steps[STEPS];               // which list each step is
	struct place place[RANKS];
};

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
	fake_lack = o->lack;
	o->w->engines[o->rank] = mp_engines_open(&o->w->rank[o->rank], o->w->model.axis[MP_TP] > 1 ? MP_TP : MP_DP);
	return NULL;
}

// Ranks of the axis, with fresh arenas; one of them lacks something.
static void open_world(struct world *w, int ranks, size_t incoming, enum mp_axis axis, enum fake_lack lack)
{
	struct opening openings[RANKS];
	pthread_t threads[RANKS];
	size_t offset = 256, begin = offset + MP_EXCHANGE_FLAGS + incoming;

	*w = (struct world){.ranks = ranks, .incoming = incoming, .comm.ranks = ranks, .model.axis = {1, 1, 1}};
	w->model.axis[axis] = ranks;
	w->program.exchange[axis].offset = offset;
	w->program.exchange[axis].bytes = MP_EXCHANGE_FLAGS + incoming;
	pthread_barrier_init(&w->comm.barrier, NULL, (unsigned)ranks);
	for (int rank = 0; rank < ranks; rank++) {
		struct mp_rank *r = &w->rank[rank];
		struct CUstream_st *s = &w->stream[rank];
		*r = (struct mp_rank){.model = &w->model, .program = &w->program, .options = &w->options};
		r->arena = mp_allocate(begin + MEMORY);
		*s = (struct CUstream_st){.rank = rank, .flags = r->arena + offset, .flag_bytes = MP_EXCHANGE_FLAGS / 2};
		*(axis == MP_DP ? &r->dp : &r->tp) = rank;
		*(axis == MP_DP ? &r->dp_comm : &r->tp_comm) = &w->comm;
		*(axis == MP_DP ? &r->dp_stream : &r->tp_stream) = s;
		openings[rank] = (struct opening){w, rank, rank == ranks - 1 ? lack : FAKE_NOTHING};
		if (lack == FAKE_OWN_DEVICE && ranks > 2) // two of several share one
			openings[rank].lack = rank == 1 ? lack : FAKE_NOTHING;
		CHECK(!pthread_create(&threads[rank], NULL, open_rank, &openings[rank]), "no thread");
	}
	for (int rank = 0; rank < ranks; rank++)
		pthread_join(threads[rank], NULL);
	pthread_barrier_destroy(&w->comm.barrier);
}

static void close_world(struct world *w)
{
	for (int rank = 0; rank < w->ranks; rank++) {
		mp_engines_close(w->engines[rank]);
		free(w->rank[rank].arena);
		for (int list = 0; list < LISTS; list++)
			free(w->lists[list].operations[rank]);
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

// What a rank gives in the collective of a step.
static char value(int step, int collective, int rank, size_t at)
{
	uint64_t x = ((uint64_t)(step * COLLECTIVES + collective) * RANKS + (uint64_t)rank) << 16 | at;
	return (char)(x * 0x9e3779b97f4a7c15u >> 56);
}

static void write_data(const struct world *w, const struct list *list, int collective, int rank, int step)
{
	const struct collective *c = &list->at[collective];
	char *arena = w->rank[rank].arena;
	size_t bytes, to = taken(w, c, rank, &bytes);

	memset(arena + to, JUNK, bytes + (c->in_place ? 0 : MARGIN));
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
	size_t bytes, to = taken(w, c, rank, &bytes), end = bytes + (c->in_place ? 0 : MARGIN);

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
	c.in_place = kind == ALL_REDUCE || (kind != SHIFT && c.in_place);
	taken(w, &c, 0, &bytes);
	gap = kind == ALL_REDUCE ? 0 : (bytes + MARGIN + 15) / 16 * 16;
	c.to = w->program.exchange[w->model.axis[MP_TP] > 1 ? MP_TP : MP_DP].offset + MP_EXCHANGE_FLAGS + w->incoming + width * below(64);
	c.from = c.to + gap;
	return c;
}

static void random_list(const struct world *w, struct list *list)
{
	unsigned of = below(4); // all kinds, any one, one of all kinds, one shift alone or several

	list->count = of == 0 ? 1 + (int)below(8) : of == 1 ? 1 + (int)below(4) : 1 + (int)below(2);
	enum kind only = of == 3 ? SHIFT : (enum kind)below(KINDS);
	for (int i = 0; i < list->count; i++)
		list->at[i] = random_collective(w, of % 2 ? only : (enum kind)below(KINDS));
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
	default: mp_engines_shift(e, from, to, c->bytes, c->by);
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
	list->operations[rank] = s->operations;
	list->operation_count[rank] = s->count;
	s->operations = NULL;
	s->count = s->room = 0;
}

// ---------------------------------------------------------------------------------------------------------
// Running

static const struct list *list_of(const struct world *w, int rank)
{
	return &w->lists[w->steps[w->place[rank].step]];
}

static const struct fake_operation *next_of(const struct world *w, int rank)
{
	return &list_of(w, rank)->operations[rank][w->place[rank].operation];
}

static bool can_go_on(const struct world *w, int rank)
{
	if (w->place[rank].step == STEPS)
		return false;
	const struct fake_operation *o = next_of(w, rank);
	return o->kind != FAKE_WAIT || *(const uint32_t *)o->to == o->value;
}

// A part of a large copy or sum, or the whole of any other operation.
static void go_on(struct world *w, int rank)
{
	struct place *p = &w->place[rank];
	const struct list *list = list_of(w, rank);
	const struct fake_operation *o = next_of(w, rank);

	if (o->kind == FAKE_WRITE)
		write_data(w, list, o->collective, rank, p->step);
	else if (o->kind == FAKE_CHECK)
		check_data(w, list, o->collective, rank, p->step);
	else if (o->kind != FAKE_WAIT && o->bytes) {
		size_t left = (o->bytes - p->done) / 8, end = left ? p->done + 8 * (1 + below((unsigned)left)) : o->bytes;
		fake_run(o, p->done, end);
		p->done = end;
		if (end < o->bytes)
			return;
	}
	p->done = 0;
	if (++p->operation == list->operation_count[rank])
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
		const struct fake_operation *o = next_of(w, rank);
		const struct collective *c = &list_of(w, rank)->at[o->collective];
		fprintf(stderr, "%d ranks: rank %d waits for ever, step %d, collective %d (%s): the flag at %td is %u, not %u\n", w->ranks, rank, p->step,
		        o->collective, names[c->kind], o->to - w->rank[rank].arena, *(const uint32_t *)o->to, o->value);
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
	open_world(w, ranks, (size_t)(ranks - 1) * 16 * (1 + below(5)), below(2) ? MP_TP : MP_DP, FAKE_NOTHING);
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
		for (int time = 0; time < 240 / ranks; time++) {
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
