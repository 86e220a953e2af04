// Ranks started by hand on GPUs: one process a rank, because NCCL wants one and a failing rank must not take the others'
// device state with it. They are forked before the first CUDA call, as a CUDA context does not survive a fork. The
// parent holds no device: it passes signals on, and when one rank fails it ends those that do not end by themselves
// and returns the status of the first cause (6, "another rank failed", gives way to it).
#define _GNU_SOURCE
#include "mp_run.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { GRACE_SECONDS = 10 };    // for the others to end by themselves after a failure

struct child {
	pid_t process;          // 0: ended
	int socket[2];          // rank 0's end, this rank's end
};

MP_NORETURN static void run_child(struct mp_session *s, struct child *children, int rank,
                                  int (*run_rank)(struct mp_session *s, int rank, const int *sockets))
{
	int world = s->launch.world;
	int *sockets = mp_allocate((size_t)world * sizeof *sockets);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	mp_launch_environment(&s->options, rank);
	for (int k = 1; k < world; k++) { // an end that stays open in a third process would hide that its owner is gone
		if (rank == 0)
			sockets[k] = children[k].socket[0];
		else
			close(children[k].socket[0]);
		if (k == rank)
			sockets[0] = children[k].socket[1];
		else
			close(children[k].socket[1]);
	}
	int status = run_rank(s, rank, sockets);
	fflush(NULL);
	_exit(status);
}

static void start_children(struct mp_session *s, struct child *children, const sigset_t *mask,
                           int (*run_rank)(struct mp_session *s, int rank, const int *sockets))
{
	int world = s->launch.world;

	for (int k = 1; k < world; k++)
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, children[k].socket))
			mp_fail(MP_IO_FAILED, "no sockets for %d ranks: %s", world, strerror(errno));
	fflush(NULL);
	for (int k = 0; k < world; k++) {
		children[k].process = fork();
		if (children[k].process < 0) {
			for (int j = 0; j < k; j++)
				kill(children[j].process, SIGKILL);
			mp_fail(MP_IO_FAILED, "no process for rank %d: %s", k, strerror(errno));
		}
		if (children[k].process == 0) {
			sigprocmask(SIG_SETMASK, mask, NULL);
			run_child(s, children, k, run_rank);
		}
	}
	for (int k = 1; k < world; k++) {
		close(children[k].socket[0]);
		close(children[k].socket[1]);
	}
}

static void signal_children(const struct child *children, int world, int signal)
{
	for (int k = 0; k < world; k++)
		if (children[k].process)
			kill(children[k].process, signal);
}

// What is known of the failure: an exit with status 6 follows from another rank's, anything else is a cause.
struct verdict {
	enum { NO_FAILURE, CONSEQUENCE, CAUSE } weight;
	int status, rank;
	bool killing;           // this parent began to kill those that did not end
};

static void weigh(struct verdict *v, int wait_status, int rank)
{
	bool exited = WIFEXITED(wait_status);
	int status = exited ? WEXITSTATUS(wait_status) : MP_PEER_FAILED;
	bool consequence = exited ? status == MP_PEER_FAILED : v->killing;

	if (!exited && !consequence) // nobody else can say so
		fprintf(stderr, "rank %d was ended by signal %d (%s)\n", rank, WTERMSIG(wait_status), strsignal(WTERMSIG(wait_status)));
	if (status == MP_DONE || v->weight == CAUSE || (consequence && v->weight == CONSEQUENCE))
		return;
	v->weight = consequence ? CONSEQUENCE : CAUSE;
	v->status = status;
	v->rank = rank;
}

// Takes in the ranks that ended. Returns how many.
static int reap(struct child *children, int world, struct verdict *v)
{
	int ended = 0, wait_status;

	for (int k = 0; k < world; k++) {
		if (!children[k].process || waitpid(children[k].process, &wait_status, WNOHANG) <= 0)
			continue;
		children[k].process = 0;
		ended++;
		weigh(v, wait_status, k);
	}
	return ended;
}

static int wait_for_children(struct child *children, int world, const sigset_t *signals)
{
	struct verdict v = {.weight = NO_FAILURE};
	int living = world;
	double limit = 0;

	while (living) {
		int signal = sigtimedwait(signals, NULL, &(struct timespec){.tv_nsec = 100000000});
		if (signal == SIGINT || signal == SIGTERM)
			signal_children(children, world, SIGTERM); // after Ctrl-C they have had a SIGINT, a second one would end them
		living -= reap(children, world, &v);
		if (v.weight == NO_FAILURE || !living)
			continue;
		if (!limit)
			limit = mp_seconds() + GRACE_SECONDS;
		if (mp_seconds() > limit) {
			v.killing = true;
			signal_children(children, world, SIGKILL);
		}
	}
	if (v.weight != NO_FAILURE)
		fprintf(stderr, "rank %d failed with status %d; the other ranks ended with it\n", v.rank, v.status);
	return v.status;
}

int mp_local_run(struct mp_session *s, int (*run_rank)(struct mp_session *s, int rank, const int *sockets))
{
	int world = s->launch.world;
	struct child *children;
	sigset_t signals, before;

	if (world == 1)
		return run_rank(s, 0, NULL);
	children = mp_allocate((size_t)world * sizeof *children);
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGCHLD);
	sigprocmask(SIG_BLOCK, &signals, &before);
	start_children(s, children, &before, run_rank);
	int status = wait_for_children(children, world, &signals);
	sigprocmask(SIG_SETMASK, &before, NULL);
	free(children);
	return status;
}
