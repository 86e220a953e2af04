// mp_main: from the command line to running ranks. The order matters: what can fail without a device (options, the
// number of ranks, the data set) comes first, so that it fails once, in one process, before any rank has started.
#include "mp_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Runs one rank from start to end in the calling thread. Returns the exit status.
static int run_rank(struct mp_session *s, int rank, const int *sockets)
{
	struct mp_rank *r = mp_allocate(sizeof *r);

	if (s->launch.world > 1)
		mp_fail_name(s->model->name, rank);
	r->session = s;
	r->model = s->model;
	r->options = &s->options;
	r->rank = rank;
	r->world = s->launch.world;
	r->control = mp_control_open(s, rank, sockets);
	mp_rank_open(r);
	int status = s->body(r);
	if (status != MP_DONE)
		mp_end_process(status); // the others notice that no goodbye came
	mp_rank_close(r);
	mp_control_close(r->control);
	free(r);
	return MP_DONE;
}

static int run_launched(struct mp_session *s)
{
	int *sockets = mp_allocate((size_t)s->launch.world * sizeof *sockets);

	mp_fail_name(s->model->name, s->launch.world > 1 ? s->launch.rank : -1);
	mp_launch_environment(&s->options, s->launch.rank);
	mp_connect(s, sockets);
	int status = run_rank(s, s->launch.rank, sockets);
	free(sockets);
	return status;
}

static void check_world(const struct mp_session *s, int mesh_size)
{
	const int *axis = s->model->axis;

	if (s->launch.world != mesh_size)
		mp_fail(MP_RANKS_DIFFER, "this program is for %d ranks (dp=%d, tp=%d, pp=%d) but %s says %d: start %d, or generate "
		        "the program for another --mesh", mesh_size, axis[MP_DP], axis[MP_TP], axis[MP_PP], s->launch.launcher,
		        s->launch.world, mesh_size);
}

// Synthetic data come from the seed of the run.
static struct mp_dataset *open_data(const struct mp_session *s, const char *path, bool evaluation)
{
	char seeded[64];

	snprintf(seeded, sizeof seeded, "synthetic:%llu", (unsigned long long)s->options.seed);
	struct mp_dataset *d = mp_dataset_open(s->model, strcmp(path, "synthetic") ? path : seeded, evaluation);
	if (s->options.split > 0)
		mp_dataset_split(d, s->options.split);
	return d;
}

int mp_main(const struct mp_model *model, int argc, char **argv, int (*body)(struct mp_rank *r))
{
	struct mp_session s = {.model = model, .body = body};
	int mesh_size = model->axis[MP_DP] * model->axis[MP_TP] * model->axis[MP_PP];

	mp_fail_name(model->name, -1);
	mp_options_parse(&s.options, model, argc, argv);
	mp_launch_find(&s.launch, mesh_size);
	check_world(&s, mesh_size);
	mp_signals_catch();
	if (s.options.data)
		s.data = open_data(&s, s.options.data, false);
	if (s.options.prompt)
		s.prompt = mp_prompt_read(model, s.options.prompt, &s.prompt_count);
	if (s.options.eval)
		s.eval_data = open_data(&s, s.options.eval, true);
	int status = s.launch.launcher ? run_launched(&s) : mp_local_run(&s, run_rank);
	if (s.eval_data)
		mp_dataset_close(s.eval_data);
	if (s.data)
		mp_dataset_close(s.data);
	free(s.prompt);
	return status;
}
