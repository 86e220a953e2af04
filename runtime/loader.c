// loader.c: each step's samples in pinned memory, ready when the step begins.
//
// Which samples a step holds is a function of seed and step alone: an epoch's order is a permutation that every rank
// draws for itself (of token data every sample may be drawn by itself), and a rank copies the part of the global batch that its replica computes. Copying and converting
// take longer than a small model's step, so one thread a loader fills the next step's buffers while the device works
// on those of the current step. Two sets of buffers alternate; the thread touches only the set that was not handed
// out last, and not before it is told that nothing reads that any more. Steps may be asked for in any order: a wrong guess costs time,
// nothing else.
#include "data.h"
#include "random.h"

#include <pthread.h>
#include <stdlib.h>

// One set of buffers: the samples of one step.
struct slot {
	void **input;           // one for each input of the program
	long step;              // whose samples they are; -1: none
	long real;              // samples of the global batch that are not padding
};

struct mp_loader {
	struct mp_rank *r;
	const struct mp_dataset *d;
	enum mp_order order;
	uint64_t seed;
	uint64_t key;           // MP_RANDOM: of its draws
	long steps;             // of an epoch

	// The thread's own.
	long *permutation;      // of epoch `epoch`, when shuffled
	long epoch;             // -1: none yet
	long *index;            // samples of this rank's part of a step

	pthread_t thread;
	pthread_mutex_t mutex;  // guards what follows
	pthread_cond_t changed;
	bool stop;
	long wanted;            // step that the thread is to fill in, or is filling in; -1: none
	long following;         // the step behind the one that was handed out last
	struct slot slot[2];
	int front;              // the slot that was handed out last
};

// Samples of one step on this rank.
static long local_samples(const struct mp_loader *l)
{
	const struct mp_model *m = l->r->model;
	return m->batch / m->axis[MP_DP];
}

// ---------------------------------------------------------------------------------------------------------
// Filling (the thread)

// Index of a sample of the step's batch; -1: padding.
static long sample_at(const struct mp_loader *l, long step, long sample)
{
	long batch = l->r->model->batch, position = step % l->steps * batch + sample;
	if (l->order == MP_RANDOM)
		return mp_tokens_draw(l->d, l->key, step * batch + sample);
	if (position >= l->d->samples)
		return -1;
	return (l->order == MP_SHUFFLED ? l->permutation[position] : position) * l->d->stride;
}

// Lists this rank's samples in the order of mp_input: micro-batch by micro-batch, this replica's part of each.
static void list_samples(struct mp_loader *l, long step)
{
	const struct mp_model *m = l->r->model;
	long epoch = step / l->steps;
	long logical = m->batch / m->microbatches, local = logical / m->axis[MP_DP];
	if (l->order == MP_SHUFFLED && epoch != l->epoch)
		mp_random_order(l->seed, epoch, l->d->samples, l->permutation);
	l->epoch = epoch;
	for (long k = 0; k < m->microbatches; k++)
		for (long i = 0; i < local; i++)
			l->index[k * local + i] = sample_at(l, step, k * logical + l->r->dp * local + i);
}

static void fill(struct mp_loader *l, struct slot *slot, long step)
{
	const struct mp_program *p = l->r->program;
	long batch = l->r->model->batch, left = l->order == MP_RANDOM ? batch : l->d->samples - step % l->steps * batch;
	list_samples(l, step);
	for (int i = 0; i < p->input_count; i++) {
		const struct mp_input *in = &p->inputs[i];
		int column = mp_input_index(l->d->model, in->name);
		if (l->d->tokens)
			mp_tokens_gather(l->d, in, l->index, local_samples(l), slot->input[i]);
		else
			mp_column_gather(in, &l->d->columns[column], l->index, local_samples(l), slot->input[i]);
	}
	slot->step = step;
	slot->real = left < batch ? left : batch;
}

static void *prefetch(void *argument)
{
	struct mp_loader *l = argument;
	pthread_mutex_lock(&l->mutex);
	while (!l->stop) {
		if (l->wanted < 0) {
			pthread_cond_wait(&l->changed, &l->mutex);
			continue;
		}
		struct slot *back = &l->slot[1 - l->front];
		long step = l->wanted;
		pthread_mutex_unlock(&l->mutex);
		fill(l, back, step);
		pthread_mutex_lock(&l->mutex);
		l->wanted = -1;
		pthread_cond_signal(&l->changed);
	}
	pthread_mutex_unlock(&l->mutex);
	return NULL;
}

// ---------------------------------------------------------------------------------------------------------
// The rank's side

static void check_batch(const struct mp_loader *l)
{
	const struct mp_model *m = l->r->model;
	const struct mp_program *p = l->r->program;
	if (m->batch % (m->microbatches * m->axis[MP_DP]))
		mp_fail(MP_BUG, "a batch of %d is not divisible into %d micro-batches of %d replicas", m->batch, m->microbatches,
		        m->axis[MP_DP]);
	for (int i = 0; i < p->input_count; i++)
		if (mp_input_index(l->d->model, p->inputs[i].name) < 0)
			mp_fail(MP_BUG, "%s reads %s, which the model's inputs lack", p->name, p->inputs[i].name);
	if (l->steps == 0)
		mp_fail(MP_BAD_INPUT, "%s holds %ld samples, but a batch has %d", l->d->path, l->d->samples, m->batch);
}

static void make_slot(const struct mp_loader *l, struct slot *slot)
{
	const struct mp_program *p = l->r->program;
	slot->step = -1;
	slot->input = mp_allocate((size_t)p->input_count * sizeof *slot->input);
	for (int i = 0; i < p->input_count; i++) {
		size_t sample = (size_t)mp_input_elements(&p->inputs[i]) * mp_type_bytes(p->inputs[i].type);
		CUDA(cudaMallocHost(&slot->input[i], (size_t)local_samples(l) * sample));
	}
}

struct mp_loader *mp_loader_new(struct mp_rank *r, struct mp_dataset *d, enum mp_order order, uint64_t seed,
                                bool keep_tail)
{
	struct mp_loader *l = mp_allocate(sizeof *l);
	long batch = r->model->batch;
	*l = (struct mp_loader){.r = r, .d = d, .order = order, .seed = seed, .epoch = -1, .wanted = -1};
	if (order == MP_RANDOM && !d->tokens)
		l->order = MP_SHUFFLED;
	l->key = mp_random_key(seed, "windows");
	l->steps = keep_tail ? (d->samples + batch - 1) / batch : d->samples / batch;
	if (l->order == MP_RANDOM && l->steps == 0)
		l->steps = 1;
	check_batch(l);
	l->permutation = l->order == MP_SHUFFLED ? mp_allocate((size_t)d->samples * sizeof *l->permutation) : NULL;
	l->index = mp_allocate((size_t)local_samples(l) * sizeof *l->index);
	make_slot(l, &l->slot[0]);
	make_slot(l, &l->slot[1]);
	if (!r->input)
		r->input = mp_allocate((size_t)r->program->input_count * sizeof *r->input);
	pthread_mutex_init(&l->mutex, NULL);
	pthread_cond_init(&l->changed, NULL);
	if (pthread_create(&l->thread, NULL, prefetch, l))
		mp_fail(MP_IO_FAILED, "cannot start the thread that loads %s", d->path);
	return l;
}

long mp_loader_steps(const struct mp_loader *l) { return l->steps; }

static void request(struct mp_loader *l, long step)
{
	l->wanted = step;
	pthread_cond_signal(&l->changed);
}

static void wait_for_thread(struct mp_loader *l)
{
	while (l->wanted >= 0)
		pthread_cond_wait(&l->changed, &l->mutex);
}

long mp_loader_next(struct mp_loader *l, long step)
{
	if (l->order == MP_FILE_ORDER)
		step %= l->steps;       // every epoch is the same
	pthread_mutex_lock(&l->mutex);
	wait_for_thread(l);
	if (l->slot[1 - l->front].step != step) {
		request(l, step);
		wait_for_thread(l);
	}
	l->front = 1 - l->front;
	struct slot *slot = &l->slot[l->front];
	l->following = l->order == MP_FILE_ORDER ? (step + 1) % l->steps : step + 1;
	pthread_mutex_unlock(&l->mutex);
	for (int i = 0; i < l->r->program->input_count; i++)
		l->r->input[i] = slot->input[i];
	l->r->input_slot = l->front;
	return slot->real;
}

void mp_loader_prefetch(struct mp_loader *l)
{
	pthread_mutex_lock(&l->mutex);
	request(l, l->following);
	pthread_mutex_unlock(&l->mutex);
}

void mp_loader_free(struct mp_loader *l)
{
	pthread_mutex_lock(&l->mutex);
	l->stop = true;
	pthread_cond_signal(&l->changed);
	pthread_mutex_unlock(&l->mutex);
	pthread_join(l->thread, NULL);
	pthread_cond_destroy(&l->changed);
	pthread_mutex_destroy(&l->mutex);
	for (int k = 0; k < 2; k++) {
		for (int i = 0; i < l->r->program->input_count; i++)
			CUDA(cudaFreeHost(l->slot[k].input[i]));
		free(l->slot[k].input);
	}
	free(l->index);
	free(l->permutation);
	free(l);
}
