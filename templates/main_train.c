// The training loop. Options, data, launch, checkpoints and reports are the runtime's: see runtime/mp_run.h.
#include "mp_run.h"

extern const struct mp_model model;     // devices.c

// Trains one rank. All ranks run the same loop, each on its own device.
static int train(struct mp_rank *r)
{
	mp_load(r);
	while (mp_more_steps(r)) {
		while (mp_may_enqueue(r)) { // this step, and behind it the next one
			mp_next_batch(r);
			mp_run(r, &r->program->train);
		}
		mp_report(r);
		if (mp_due(r, r->options->eval_every))
			mp_evaluate(r);
		if (mp_due(r, r->options->save_every))
			mp_save(r);
	}
	mp_finish(r);
	return MP_DONE;
}

int main(int argc, char **argv)
{
	return mp_main(&model, argc, argv, train);
}
