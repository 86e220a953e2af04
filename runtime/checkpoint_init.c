// checkpoint_init.c: the state that training starts from.
//
// Every rank computes the elements that it stores and no others, straight from seed, name and index: no messages, no
// broadcast from one rank, and the same bits whatever the mesh. Name and index are those of the tensor in files, so that
// they do not depend on how the model joins and pads such tensors either.
//
// A normal value takes 10 ns and more, and large models have billions. Threads draw slabs of all states, one after another
// in the order of the table, into a ring of slabs; the rank's own thread, which alone speaks to the device, copies them in
// that order. What a thread is given is a slab and not a run of elements, because runs are short where the device's order
// of dims is not the file's. Where there is little to draw, the rank's thread does that as well.
#include "checkpoint.h"
#include "random.h"

#include <pthread.h>
#include <unistd.h>

// Slabs are small enough for a processor's cache: filling one whose dims are in another order goes all over it.
enum { SLAB_BYTES = 1 << 20, THREADS = 16, SLOTS = 2 * THREADS };
static const size_t worth_a_thread = 1 << 19;   // bytes

struct drawing {
	struct mp_rank *r;
	uint64_t seed;
	long slabs;                     // of all states
	int slots;
	struct mp_slab slot[SLOTS];     // slab k passes through slot k % slots

	pthread_mutex_t mutex;          // guards what follows
	pthread_cond_t drawn, copied;
	long next;                      // slab to be drawn next, which is slab `number` of states[state]
	int state;
	long number;
	bool ready[SLOTS];              // drawn, not copied yet
	long done;                      // slabs that are copied
};

static bool is_drawn(const struct mp_state *s)
{
	return s->init.kind != MP_CONSTANT || s->init.a != 0;   // the arena starts as zeros
}

// ---------------------------------------------------------------------------------------------------------
// Drawing (any thread)

struct piece_key {
	uint64_t seed, key;
	const struct mp_piece *piece;   // that key is of
};

static void draw_run(void *context, const struct mp_state *s, const struct mp_piece *piece, void *bytes, long first, long count)
{
	struct piece_key *of = context;
	if (of->piece != piece)
		of->key = mp_random_key(of->seed, piece->name);
	of->piece = piece;
	mp_random_fill(&s->init, of->key, s->type, first, count, bytes);
}

// Takes the next slab, in the order of the states, when a slot is free for it. -1: none is left.
static long take_slab(struct drawing *d, const struct mp_state **state, long *number)
{
	const struct mp_state *states = d->r->program->states;
	long k = -1;
	pthread_mutex_lock(&d->mutex);
	while (d->next < d->slabs && d->next - d->done == d->slots)
		pthread_cond_wait(&d->copied, &d->mutex);
	if (d->next < d->slabs) {
		while (!is_drawn(&states[d->state]) || d->number == mp_shard_slabs(d->r, &states[d->state], SLAB_BYTES)) {
			d->state++;
			d->number = 0;
		}
		k = d->next++;
		*state = &states[d->state];
		*number = d->number++;
	}
	pthread_mutex_unlock(&d->mutex);
	return k;
}

// Draws one slab. False: none is left.
static bool draw_slab(struct drawing *d)
{
	const struct mp_state *state = NULL;
	long number = 0, k = take_slab(d, &state, &number);
	if (k < 0)
		return false;
	mp_shard_fill_slab(d->r, state, number, &d->slot[k % d->slots], draw_run, &(struct piece_key){.seed = d->seed});
	pthread_mutex_lock(&d->mutex);
	d->ready[k % d->slots] = true;
	pthread_cond_signal(&d->drawn);
	pthread_mutex_unlock(&d->mutex);
	return true;
}

static void *draw_slabs(void *argument)
{
	while (draw_slab(argument))
		;
	return NULL;
}

// ---------------------------------------------------------------------------------------------------------
// The rank's side

// Copies slab k when it is drawn.
static void copy_slab(struct drawing *d, long k)
{
	const struct mp_slab *slab = &d->slot[k % d->slots];
	pthread_mutex_lock(&d->mutex);
	while (!d->ready[k % d->slots])
		pthread_cond_wait(&d->drawn, &d->mutex);
	d->ready[k % d->slots] = false;
	pthread_mutex_unlock(&d->mutex);
	mp_slab_to_device(d->r, slab);
	pthread_mutex_lock(&d->mutex);
	d->done = k + 1;
	pthread_cond_broadcast(&d->copied);
	pthread_mutex_unlock(&d->mutex);
}

static int count_threads(size_t bytes)
{
	long processors = sysconf(_SC_NPROCESSORS_ONLN), most = processors < THREADS ? processors : THREADS;
	long threads = bytes / worth_a_thread < (size_t)most ? (long)(bytes / worth_a_thread) : most;
	return threads < 2 ? 0 : (int)threads;
}

void mp_state_init(struct mp_rank *r, uint64_t seed)
{
	struct drawing d = {.r = r, .seed = seed, .mutex = PTHREAD_MUTEX_INITIALIZER, .drawn = PTHREAD_COND_INITIALIZER,
	                    .copied = PTHREAD_COND_INITIALIZER};
	pthread_t thread[THREADS];
	size_t bytes = 0;
	int threads, started = 0;

	for (int i = 0; i < r->program->state_count; i++)
		if (is_drawn(&r->program->states[i])) {
			d.slabs += mp_shard_slabs(r, &r->program->states[i], SLAB_BYTES);
			bytes += mp_shard_bytes(r, &r->program->states[i]);
		}
	threads = count_threads(bytes);
	d.slots = threads ? 2 * threads : 1;
	mp_slabs_open(d.slot, d.slots, SLAB_BYTES);
	while (started < threads && pthread_create(&thread[started], NULL, draw_slabs, &d) == 0)
		started++;
	for (long k = 0; k < d.slabs; k++) {
		if (started == 0)
			draw_slab(&d);
		copy_slab(&d, k);
	}
	while (started > 0)
		pthread_join(thread[--started], NULL);
	mp_slabs_close(d.slot, d.slots);
}
