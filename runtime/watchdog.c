// A rank that hangs shows nothing by itself: its main thread sits in a call of CUDA or NCCL. So a thread beside it
// looks at the clock and at NCCL's asynchronous errors, says in which action the rank is stuck (the first whose mark
// has not passed), aborts the communicators so that peers notice, and ends the process.
#define _GNU_SOURCE
#include "mp_run.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

enum { LOOK_MILLISECONDS = 200, ABORT_SECONDS = 5 };

struct mp_watch {
	struct mp_rank *rank;
	pthread_t thread;
	pthread_mutex_t lock;           // guards inside, since, closing
	pthread_cond_t changed;
	bool inside, closing;
	double since;                   // when the step began
	_Atomic(const char *) action;
};

static void *abort_communicators(void *argument)
{
	struct mp_rank *r = argument;

	for (enum mp_axis axis = MP_DP; axis < MP_AXES; axis++)
		if (mp_communicator(r, axis))
			ncclCommAbort(mp_communicator(r, axis));
	return NULL;
}

// Aborts, but does not wait for long: an abort may hang as well.
static void try_abort(struct mp_rank *r)
{
	struct timespec limit;
	pthread_t helper;

	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += ABORT_SECONDS;
	if (!pthread_create(&helper, NULL, abort_communicators, r))
		pthread_timedjoin_np(helper, NULL, &limit);
}

MP_NORETURN static void stuck(struct mp_watch *w)
{
	struct mp_rank *r = w->rank;
	const char *action = atomic_load(&w->action);
	char pending[512];

	mp_marks_pending(r->marks, pending, sizeof pending);
	try_abort(r);
	mp_fail(MP_PEER_FAILED, "step %ld: nothing moved for %d seconds (--timeout): %s%s; not ended: %s", r->step + 1,
	        r->options->timeout, action ? "enqueueing " : "waiting for the device", action ? action : "", pending);
}

static void check_communicators(struct mp_rank *r)
{
	static const char *const names[MP_AXES] = {"dp", "tp", "pp"};

	for (enum mp_axis axis = MP_DP; axis < MP_AXES; axis++) {
		ncclComm_t comm = mp_communicator(r, axis);
		ncclResult_t error = ncclSuccess;
		if (!comm || ncclCommGetAsyncError(comm, &error) != ncclSuccess)
			continue;
		if (error == ncclSuccess || error == ncclInProgress)
			continue;
		nanosleep(&(struct timespec){.tv_sec = 2}, NULL); // when a peer is gone, the control channel knows which
		const char *more = ncclGetLastError(comm);
		try_abort(r);
		mp_fail(MP_DEVICE_FAILED, "step %ld: communicator %s: %s: %s", r->step + 1, names[axis], ncclGetErrorString(error),
		        more ? more : "");
	}
}

static void *watch(void *argument)
{
	struct mp_watch *w = argument;
	struct mp_rank *r = w->rank;
	struct timespec next;

	mp_fail_name(r->model->name, r->world > 1 ? r->rank : -1);
	pthread_mutex_lock(&w->lock);
	while (!w->closing) {
		clock_gettime(CLOCK_MONOTONIC, &next);
		next.tv_nsec += LOOK_MILLISECONDS * 1000000L;
		next.tv_sec += next.tv_nsec / 1000000000;
		next.tv_nsec %= 1000000000;
		pthread_cond_timedwait(&w->changed, &w->lock, &next);
		if (!w->inside || w->closing)
			continue;
		if (mp_seconds() > w->since + r->options->timeout)
			stuck(w);
		pthread_mutex_unlock(&w->lock);
		check_communicators(r);
		pthread_mutex_lock(&w->lock);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

struct mp_watch *mp_watch_open(struct mp_rank *r)
{
	struct mp_watch *w = mp_allocate(sizeof *w);
	pthread_condattr_t monotonic;

	w->rank = r;
	pthread_mutex_init(&w->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&w->changed, &monotonic);
	if (pthread_create(&w->thread, NULL, watch, w))
		mp_fail(MP_IO_FAILED, "no thread for the watchdog of rank %d", r->rank);
	return w;
}

void mp_watch_close(struct mp_watch *w)
{
	pthread_mutex_lock(&w->lock);
	w->closing = true;
	pthread_cond_signal(&w->changed);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	free(w);
}

static void set_inside(struct mp_watch *w, bool inside)
{
	pthread_mutex_lock(&w->lock);
	w->inside = inside;
	w->since = mp_seconds();
	pthread_mutex_unlock(&w->lock);
}

void mp_watch_begin(struct mp_watch *w)
{
	set_inside(w, true);
}

void mp_watch_end(struct mp_watch *w)
{
	set_inside(w, false);
}

void mp_watch_action(struct mp_watch *w, const char *action)
{
	atomic_store_explicit(&w->action, action, memory_order_relaxed);
}
