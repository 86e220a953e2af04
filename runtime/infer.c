// The inference loop: batches in the order of the file, the last one padded; outputs go to one file, into which each
// rank writes the samples that it computed.
#include "mp_run.h"

#include <stdio.h>

bool mp_next_samples(struct mp_rank *r)
{
	struct mp_loop *loop = r->loop;

	if (!mp_more_steps(r))
		return false;
	loop->started = mp_seconds();
	loop->first_sample = r->step * r->model->batch;
	loop->samples = mp_loader_next(loop->loader, r->step);
	return true;
}

void mp_write(struct mp_rank *r)
{
	mp_wait_and_vote(r);
	mp_take_votes(r);
	mp_output_write(r->loop->writer, r, r->loop->first_sample, r->loop->samples);
}

void mp_finish_output(struct mp_rank *r)
{
	struct mp_loop *loop = r->loop;
	bool whole = r->step >= r->steps;

	mp_output_close(loop->writer, r);
	if (r->rank != 0)
		return;
	if (whole)
		printf("wrote %s: %ld samples\n", r->options->output, loop->total_samples);
	else
		printf("interrupted: %s holds the first %ld of %ld samples\n", r->options->output,
		       r->step * r->model->batch, loop->total_samples);
	fflush(stdout);
}
