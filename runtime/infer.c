// The inference loop: batches in the order of the file, the last one padded. Outputs go to one file, into which each
// rank writes the samples that it computed; the losses of token data are added up to a score. Or, with --prompt, each
// batch is the text so far, and what it gives is the next token (generate.c).
#include "mp_run.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

bool mp_next_samples(struct mp_rank *r)
{
	struct mp_loop *loop = r->loop;

	if (!mp_more_steps(r))
		return false;
	loop->started = mp_seconds();
	loop->first_sample = r->step * r->model->batch;
	if (loop->generation) {
		mp_generation_window(loop->generation, r);
	} else {
		loop->samples = mp_loader_next(loop->loader, r->step);
		mp_loader_prefetch(loop->loader);
	}
	mp_take_words(r, r->input_slot);
	return true;
}

void mp_take_results(struct mp_rank *r)
{
	struct mp_loop *loop = r->loop;

	mp_wait_and_vote(r);
	mp_take_votes(r);
	if (loop->generation)
		mp_generation_draw(loop->generation, r);
	if (loop->writer)
		mp_output_write(loop->writer, r, loop->first_sample, loop->samples);
	if (loop->score)
		mp_sums_add(loop->score, r);
}

// "text.txt: 1003 tokens  loss 1.8834  perplexity 6.5761"
static void print_score(const struct mp_rank *r)
{
	const struct mp_program *p = r->program;
	double tokens = 0;
	bool printed = false;

	for (int i = 0; i < p->metric_count; i++) {
		double mean = mp_sums_mean(r->loop->score, i, &tokens);
		bool loss = !strcmp(p->metrics[i].name, "loss");
		if (mp_metric_is_count(p, i) || tokens == 0)
			continue;
		if (loss)
			printf("%s: %.0f tokens  loss %.9g  perplexity %.6g", r->options->data, tokens, mean, exp(mean));
		else
			printf("  %s %.6g", p->metrics[i].name, mean);
		printed = true;
	}
	if (printed)
		putchar('\n');
}

static void finish_output(struct mp_rank *r)
{
	struct mp_loop *loop = r->loop;

	mp_output_close(loop->writer, r);
	if (r->rank != 0)
		return;
	if (r->step >= r->steps)
		printf("wrote %s: %ld samples\n", r->options->output, loop->total_samples);
	else
		printf("interrupted: %s holds the first %ld of %ld samples\n", r->options->output,
		       r->step * r->model->batch, loop->total_samples);
}

void mp_finish_inference(struct mp_rank *r)
{
	struct mp_loop *loop = r->loop;

	if (loop->generation)
		mp_generation_free(loop->generation, r);
	if (loop->writer)
		finish_output(r);
	if (loop->score) {
		print_score(r);
		mp_sums_free(loop->score);
	}
	fflush(stdout);
}
