// The parts of the training loop. A step is: fetch samples, enqueue the schedule, wait, report. While it runs the next one is
// enqueued behind it where that is a launch: the device then goes on without the host. The ranks agree after
// every step on whether to go on, because a signal reaches them at different times and all must end at the same one.
//
// The agreement is a round of small messages. When steps are short, ranks vote before they wait for the device, so
// that the wait hides the messages' way; a signal during the wait then counts for the next step. When steps are long
// (rank 0 says so, with its own vote) they vote after the wait, and the run ends with the running step, and with the one behind it.
#include "data_files.h"
#include "mp_run.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum vote { STOP = 1, VOTE_LATE = 2 };

static const double long_step = 0.02; // seconds

double mp_learning_rate_at(const struct mp_learning_rate *rate, long step, long steps)
{
	if (step < rate->warmup)
		return rate->base * (double)(step + 1) / rate->warmup;
	if (rate->kind == MP_LR_CONSTANT || steps <= rate->warmup)
		return rate->base;
	double left = (double)(steps - step) / (double)(steps - rate->warmup);
	if (rate->kind == MP_LR_COSINE)
		left = 0.5 - 0.5 * cos(acos(-1) * left);
	return rate->least + (rate->base - rate->least) * left;
}

static long steps_to_run(const struct mp_rank *r)
{
	long epoch = mp_loader_steps(r->loop->loader), asked = r->options->steps;

	if (!r->model->training)
		return asked >= 0 && asked < epoch ? asked : epoch;
	return asked >= 0 ? asked : r->model->steps ? r->model->steps : epoch;
}

static void check_modes(const struct mp_rank *r)
{
	bool evaluates = false; // a stage whose layers the loss does not need has nothing to do
	for (int stage = 0; stage < r->model->axis[MP_PP]; stage++)
		evaluates |= r->model->program(stage)->evaluate.count > 0;
	if (r->options->eval && !evaluates)
		mp_fail(MP_USAGE, "--eval: this program has no evaluation: the spec's forward returns no loss for it");
}

// A long run must not end with the news that its results cannot be written.
static void check_writable(const struct mp_rank *r)
{
	if (r->rank != 0)
		return;
	if (r->options->save)
		mp_make_folders(r->options->save);
	if (r->options->trace) {
		FILE *file = fopen(r->options->trace, "a");
		if (!file)
			mp_fail(MP_IO_FAILED, "--trace: cannot write %s: %s", r->options->trace, strerror(errno));
		fclose(file);
	}
}

// What a step draws at random depends on seed and step alone.
static void set_random_key(const struct mp_rank *r, const struct mp_words *to, long step)
{
	const uint64_t seed = r->options->seed;
	const uint32_t words[4] = {(uint32_t)seed, (uint32_t)(seed >> 32), (uint32_t)step, 0};

	memcpy(to->random_key, words, sizeof words);
}

void mp_set_random_keys(struct mp_rank *r)
{
	for (int slot = 0; slot < 2; slot++)
		set_random_key(r, &r->loop->words[slot], r->step);
}

static void start_data(struct mp_rank *r)
{
	const struct mp_options *o = r->options;
	struct mp_loop *loop = r->loop;
	bool training = r->model->training;

	loop->loader = mp_loader_new(r, r->session->data, training ? o->order : MP_FILE_ORDER, o->seed, !training);
	r->steps = steps_to_run(r);
	loop->total_samples = mp_dataset_samples(r->session->data);
	if (loop->total_samples > r->steps * r->model->batch)
		loop->total_samples = r->steps * r->model->batch;
	if (o->output)
		loop->writer = mp_output_open(r, o->output, loop->total_samples);
	if (!training && r->model->data == MP_DATA_TOKENS && r->report)
		loop->score = mp_sums_new(r);
}

static void start_generation(struct mp_rank *r)
{
	r->loop->generation = mp_generation_new(r);
	r->steps = r->options->tokens;
}

void mp_load(struct mp_rank *r)
{
	const struct mp_options *o = r->options;
	struct mp_loop *loop = r->loop;

	check_modes(r);
	check_writable(r);
	mp_state_init(r, o->seed);
	if (o->load)
		mp_checkpoint_load(r, o->load, o->allow);
	if (r->program->loaded) {
		r->program->loaded(r, -1, -1);
		CUDA(cudaStreamSynchronize(r->compute));
	}
	r->evaluating = !r->model->training;
	if (!r->model->training)
		r->step = 0; // batches, not the steps that the weights were trained for
	mp_set_random_keys(r); // inference has no steps
	if (o->prompt)
		start_generation(r);
	else
		start_data(r);
	loop->stopping = mp_any(r, mp_signal_came());
	if (r->report && r->model->training && r->step >= r->steps)
		mp_report_note(r->report, "nothing to train: %ld steps are done and --steps is %ld", r->step, r->steps);
}

bool mp_more_steps(const struct mp_rank *r)
{
	return r->loop->enqueued || (r->step < r->steps && !r->loop->stopping);
}

static bool is_due(long step, long every)
{
	return every > 0 && step % every == 0;
}

bool mp_may_enqueue(const struct mp_rank *r)
{
	const struct mp_loop *loop = r->loop;
	long next = r->step + loop->enqueued;

	if (loop->stopping || next >= r->steps || loop->enqueued == 2)
		return false;
	bool between = is_due(next, r->options->eval_every) || is_due(next, r->options->save_every);
	return !loop->enqueued || (!between && !r->trace && mp_graphs_ready(r->graphs, r, &r->program->train, 1 - r->input_slot));
}

static void set_learning_rate(const struct mp_rank *r, const struct mp_words *to, long step)
{
	double rate = mp_learning_rate_at(&r->model->learning_rate, step, r->steps);

	if (r->model->type == MP_F64)
		*(double *)to->learning_rate = rate;
	else
		*(float *)to->learning_rate = (float)rate;
	*to->step_number = (int32_t)step + 1;
}

// Of two steps that are enqueued each has the samples and the words of its slot: those that it takes were of the step before them, which
// has ended.
void mp_next_batch(struct mp_rank *r)
{
	struct mp_loop *loop = r->loop;
	long step = r->step + loop->enqueued;

	if (!loop->enqueued)
		loop->started = mp_seconds();
	r->evaluating = false;
	loop->samples = mp_loader_next(loop->loader, step);
	if (!loop->enqueued)
		mp_loader_prefetch(loop->loader);
	mp_take_words(r, r->input_slot);
	set_learning_rate(r, &loop->words[r->input_slot], step);
	set_random_key(r, &loop->words[r->input_slot], step);
	loop->enqueued++;
}

static void vote(struct mp_rank *r)
{
	int flags = mp_signal_came() ? STOP : 0;

	if (r->rank == 0 && r->loop->step_seconds > long_step)
		flags |= VOTE_LATE;
	mp_vote(r, (unsigned char)flags);
}

// Waits for the first of two steps; the other one then has its turn, and the samples behind those of both are fetched.
static void wait_for_first(struct mp_rank *r)
{
	mp_watch_action(r->watch, NULL);
	CUDA(cudaEventSynchronize(r->loop->ended[1 - r->input_slot]));
	mp_watch_begin(r->watch);
	mp_take_words(r, 1 - r->input_slot);
	mp_loader_prefetch(r->loop->loader);
}

void mp_wait_and_vote(struct mp_rank *r)
{
	struct mp_loop *loop = r->loop;

	if (!loop->vote_late)
		vote(r);
	if (loop->enqueued == 2) {
		wait_for_first(r);
	} else {
		mp_rank_wait(r);
		mp_take_words(r, r->input_slot);
	}
	r->step++;
	loop->enqueued -= loop->enqueued > 0; // of training
	double now = mp_seconds();
	loop->step_seconds = now - loop->started;
	loop->started = now;
	if (loop->vote_late)
		vote(r);
}

void mp_take_votes(struct mp_rank *r)
{
	int flags = mp_voted(r);

	r->loop->stopping = flags & STOP;
	r->loop->vote_late = flags & VOTE_LATE;
}

void mp_report(struct mp_rank *r)
{
	mp_wait_and_vote(r);
	if (r->report)
		mp_report_step(r->report, r, r->loop->step_seconds);
	mp_take_votes(r);
}

bool mp_due(const struct mp_rank *r, long every)
{
	return is_due(r->step, every);
}

void mp_save(struct mp_rank *r)
{
	if (!r->options->save || r->loop->saved == r->step)
		return;
	mp_checkpoint_save(r, r->options->save, r->step, r->options->seed, r->options->max_shard_size);
	r->loop->saved = r->step;
	if (r->report)
		mp_report_note(r->report, "saved %s/step_%ld", r->options->save, r->step);
}

void mp_finish(struct mp_rank *r)
{
	if (!r->loop->stopping)
		mp_evaluate(r);
	else if (r->report)
		mp_report_note(r->report, "interrupted after step %ld of %ld", r->step, r->steps);
	mp_save(r);
}
