// Evaluation: metrics over a whole data set, of which each batch gives a mean. Batches may be partial, so means are
// weighted by the number of labels that each counted. A metric that counts nothing (a mean over all samples) would
// include the padding of the last, partial batch; that batch is left out for it, and said so.
//
// With --eval-batches an evaluation reads the same few batches every time, whatever the seed, so that its results can be
// compared; they are drawn at random, because the beginning of a file is rarely like the rest of it.
#include "mp_run.h"

#include <stdlib.h>
#include <string.h>

struct mp_sums {
	double *weighted, *weight;      // one for each metric of the program
	bool left_out;                  // a partial batch was not counted for some metric
};

struct mp_sums *mp_sums_new(const struct mp_rank *r)
{
	struct mp_sums *sums = mp_allocate(sizeof *sums);
	size_t n = (size_t)r->program->metric_count;
	sums->weighted = mp_allocate(n * sizeof *sums->weighted);
	sums->weight = mp_allocate(n * sizeof *sums->weight);
	return sums;
}

void mp_sums_free(struct mp_sums *sums)
{
	free(sums->weighted);
	free(sums->weight);
	free(sums);
}

// The gradient's norm belongs to training steps.
static bool evaluated(const struct mp_program *p, int metric)
{
	return !mp_metric_is_count(p, metric) && strcmp(p->metrics[metric].name, "grad_norm");
}

void mp_sums_add(struct mp_sums *sums, const struct mp_rank *r)
{
	const struct mp_program *p = r->program;
	bool whole = r->loop->samples == r->model->batch;

	for (int i = 0; i < p->metric_count; i++) {
		int count = p->metrics[i].count;
		if (!evaluated(p, i))
			continue;
		if (count < 0 && !whole) {
			sums->left_out = true;
			continue;
		}
		double weight = count < 0 ? 1 : mp_metric_value(r, count);
		if (weight == 0)
			continue; // no valid label: the mean is 0/0
		sums->weighted[i] += weight * mp_metric_value(r, i);
		sums->weight[i] += weight;
	}
}

double mp_sums_mean(const struct mp_sums *sums, int metric, double *weight)
{
	*weight = sums->weight[metric];
	return *weight > 0 ? sums->weighted[metric] / *weight : 0;
}

static void report(struct mp_rank *r, const struct mp_sums *sums)
{
	int n = r->program->metric_count;
	double *value = mp_allocate((size_t)n * sizeof *value);
	bool *use = mp_allocate((size_t)n * sizeof *use);

	for (int i = 0; i < n; i++) {
		double weight;
		value[i] = mp_sums_mean(sums, i, &weight);
		use[i] = evaluated(r->program, i) && weight > 0;
	}
	if (sums->left_out && r->loop->evaluations == 0)
		mp_report_note(r->report, "the last, partial batch is left out of evaluated means over all samples");
	mp_report_evaluation(r->report, r, value, use);
	free(value);
	free(use);
}

static void open_loader(struct mp_rank *r)
{
	struct mp_loop *loop = r->loop;
	long some = r->options->eval_batches;

	loop->eval_loader = mp_loader_new(r, r->session->eval_data, some ? MP_SHUFFLED : MP_FILE_ORDER, 0, true);
	loop->eval_steps = mp_loader_steps(loop->eval_loader);
	if (some && some < loop->eval_steps)
		loop->eval_steps = some;
}

void mp_evaluate(struct mp_rank *r)
{
	struct mp_loop *loop = r->loop;

	if (!r->options->eval || loop->evaluated == r->step)
		return;
	if (!loop->eval_loader)
		open_loader(r);
	struct mp_sums *sums = mp_sums_new(r);
	r->evaluating = true;
	mp_set_random_keys(r);
	for (long i = 0; i < loop->eval_steps; i++) {
		loop->samples = mp_loader_next(loop->eval_loader, i);
		mp_loader_prefetch(loop->eval_loader);
		mp_take_words(r, r->input_slot);
		mp_run(r, &r->program->evaluate);
		mp_rank_wait(r);
		mp_sums_add(sums, r);
	}
	r->evaluating = false;
	if (r->report)
		report(r, sums);
	loop->evaluated = r->step;
	loop->evaluations++;
	mp_sums_free(sums);
}
