// The inference loop. Options, data, launch, weights and output are the runtime's: see runtime/mp_run.h.
#include "mp_run.h"

extern const struct mp_model model;     // devices.c

// Runs one rank. All ranks run the same loop, each on its own device: over batches of data or, with --prompt, over the
// tokens that are generated.
static int infer(struct mp_rank *r)
{
	mp_load(r);
	while (mp_next_samples(r)) {
		mp_run(r, &r->program->infer);
		mp_take_results(r);
	}
	mp_finish_inference(r);
	return MP_DONE;
}

int main(int argc, char **argv)
{
	return mp_main(&model, argc, argv, infer);
}
