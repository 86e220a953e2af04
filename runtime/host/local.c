// Ranks started by hand on the host build: one thread a rank in this process, so that races between ranks show in
// thread sanitizers and a debugger sees them all. They talk over socket pairs, as processes would.
#define _GNU_SOURCE
#include "mp_run.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct rank_thread {
	struct mp_session *session;
	int (*run_rank)(struct mp_session *s, int rank, const int *sockets);
	int rank, status;
	int *sockets;           // rank 0: one for each rank; others: one, to rank 0
	pthread_t thread;
};

static void *run(void *argument)
{
	struct rank_thread *t = argument;
	t->status = t->run_rank(t->session, t->rank, t->sockets);
	return NULL;
}

int mp_local_run(struct mp_session *s, int (*run_rank)(struct mp_session *s, int rank, const int *sockets))
{
	int world = s->launch.world, status = MP_DONE;
	struct rank_thread *threads = mp_allocate((size_t)world * sizeof *threads);

	for (int k = 0; k < world; k++) {
		int pair[2];
		threads[k] = (struct rank_thread){.session = s, .run_rank = run_rank, .rank = k};
		threads[k].sockets = mp_allocate((size_t)(k == 0 ? world : 1) * sizeof *threads[k].sockets);
		if (k == 0)
			continue;
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
			mp_fail(MP_IO_FAILED, "no sockets for %d ranks: %s", world, strerror(errno));
		threads[0].sockets[k] = pair[0];
		threads[k].sockets[0] = pair[1];
	}
	for (int k = 0; k < world; k++)
		if (pthread_create(&threads[k].thread, NULL, run, &threads[k]))
			mp_fail(MP_IO_FAILED, "no thread for rank %d: %s", k, strerror(errno));
	for (int k = 0; k < world; k++) {
		pthread_join(threads[k].thread, NULL);
		if (status == MP_DONE)
			status = threads[k].status;
		free(threads[k].sockets);
	}
	free(threads);
	return status;
}
