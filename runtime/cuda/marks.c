// Marks on GPUs: an event behind each action on every stream. An event that has not passed names the action that is
// stuck; with timing, the time between two neighbours is what the action took on that stream, waits included.
#include "mp_run.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

struct mp_marks {
	bool timed;
	int device, streams, capacity;
	cudaStream_t stream[MP_STREAMS];
	const char *name[MP_STREAMS];
	cudaEvent_t *event;                             // [capacity + 1][streams]: row 0 is the schedule's start
	_Atomic(const struct mp_schedule *) schedule;   // NULL: this run is not marked
	atomic_int enqueued;                            // actions
	double started;
};

static int longest(const struct mp_program *p)
{
	int n = p->train.count > p->evaluate.count ? p->train.count : p->evaluate.count;
	return n > p->infer.count ? n : p->infer.count;
}

struct mp_marks *mp_marks_new(struct mp_rank *r, bool timed)
{
	struct mp_marks *m = mp_allocate(sizeof *m);

	m->timed = timed;
	m->capacity = longest(r->program);
	m->streams = mp_streams(r, m->stream, m->name);
	CUDA(cudaGetDevice(&m->device));
	m->event = mp_allocate((size_t)(m->capacity + 1) * (size_t)m->streams * sizeof *m->event);
	for (int i = 0; i < (m->capacity + 1) * m->streams; i++)
		CUDA(cudaEventCreateWithFlags(&m->event[i], timed ? cudaEventDefault : cudaEventDisableTiming));
	return m;
}

void mp_marks_free(struct mp_marks *m)
{
	for (int i = 0; i < (m->capacity + 1) * m->streams; i++)
		CUDA(cudaEventDestroy(m->event[i]));
	free(m->event);
	free(m);
}

static void record_row(struct mp_marks *m, int row)
{
	for (int s = 0; s < m->streams; s++)
		CUDA(cudaEventRecord(m->event[row * m->streams + s], m->stream[s]));
}

void mp_marks_start(struct mp_marks *m, const struct mp_schedule *schedule)
{
	m->started = mp_seconds();
	record_row(m, 0);
	atomic_store(&m->enqueued, 0);
	atomic_store(&m->schedule, schedule);
}

void mp_mark(struct mp_marks *m, int action)
{
	record_row(m, action + 1);
	atomic_store(&m->enqueued, action + 1);
}

void mp_marks_stop(struct mp_marks *m)
{
	atomic_store(&m->schedule, NULL);
}

const char *mp_marks_pending(struct mp_marks *m, char *text, size_t size)
{
	const struct mp_schedule *schedule = atomic_load(&m->schedule);
	int enqueued = atomic_load(&m->enqueued);
	size_t used = 0;

	if (!schedule) {
		snprintf(text, size, "unknown, this step was not marked");
		return text;
	}
	cudaSetDevice(m->device); // a watchdog's thread has not chosen one
	snprintf(text, size, "nothing");
	for (int s = 0; s < m->streams; s++) {
		int i = 0;
		while (i < enqueued && cudaEventQuery(m->event[(i + 1) * m->streams + s]) == cudaSuccess)
			i++;
		if (i < schedule->count && used < size)
			used += (size_t)snprintf(text + used, size - used, "%s%s on %s", used ? ", " : "", schedule->actions[i].name,
			                         m->name[s]);
	}
	return text;
}

void mp_marks_trace(struct mp_marks *m, struct mp_trace *t)
{
	const struct mp_schedule *schedule = atomic_load(&m->schedule);

	for (int s = 0; s < m->streams; s++) {
		CUDA(cudaStreamSynchronize(m->stream[s]));
		for (int i = 0; schedule && i < schedule->count; i++) {
			float begin, end;
			CUDA(cudaEventElapsedTime(&begin, m->event[0], m->event[i * m->streams + s]));
			CUDA(cudaEventElapsedTime(&end, m->event[0], m->event[(i + 1) * m->streams + s]));
			if (end - begin > 0.0015f) // the action did something on this stream
				mp_trace_add(t, m->name[s], schedule->actions[i].name, m->started + 1e-3 * (double)begin,
				             m->started + 1e-3 * (double)end);
		}
	}
}
