// Evaluation: metrics over a whole data set, of which each batch gives a mean. Batches may be partial, so means are
// weighted by the number of labels that each counted. A metric that counts nothing (a mean over all samples) would
// include the padding of the last, partial batch; that batch is left out for it, and said so.
#include "mp_run.h"

#include <stdlib.h>
#include <string.h>

struct sums {
	double *weighted, *weight;      // one for each metric of the program
	bool left_out;                  // a partial batch was not counted for some metric
};

// The gradient's norm belongs to training steps.
static bool evaluated(const struct mp_program *p, int metric)
{
	return !mp_metric_is_count(p, metric) && strcmp(p->metrics[metric].name, "grad_norm");
}

static void add_batch(const struct mp_rank *r, struct sums *sums)
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

static void report(struct mp_rank *r, const struct sums *sums)
{
	int n = r->program->metric_count;
	double *value = mp_allocate((size_t)n * sizeof *value);
	bool *use = mp_allocate((size_t)n * sizeof *use);

	for (int i = 0; i < n; i++) {
		use[i] = evaluated(r->program, i) && sums->weight[i] > 0;
		value[i] = use[i] ? sums->weighted[i] / sums->weight[i] : 0;
	}
	if (sums->left_out && r->loop->evaluations == 0)
		mp_report_note(r->report, "the last, partial batch is left out of evaluated means over all samples");
	mp_report_evaluation(r->report, r, value, use);
	free(value);
	free(use);
}

void mp_evaluate(struct mp_rank *r)
{
	struct mp_loop *loop = r->loop;
	size_t n = (size_t)r->program->metric_count;
	struct sums sums = {0};

	if (!r->options->eval || loop->evaluated == r->step)
		return;
	if (!loop->eval_loader)
		loop->eval_loader = mp_loader_new(r, r->session->eval_data, false, r->options->seed, true);
	sums.weighted = mp_allocate(n * sizeof *sums.weighted);
	sums.weight = mp_allocate(n * sizeof *sums.weight);
	r->evaluating = true;
	long steps = mp_loader_steps(loop->eval_loader), first = loop->evaluations * steps; // the loader's steps go on
	for (long i = 0; i < steps; i++) {
		loop->samples = mp_loader_next(loop->eval_loader, first + i);
		mp_run(r, &r->program->evaluate);
		mp_rank_wait(r);
		add_batch(r, &sums);
	}
	r->evaluating = false;
	if (r->report)
		report(r, &sums);
	loop->evaluated = r->step;
	loop->evaluations++;
	free(sums.weighted);
	free(sums.weight);
}
