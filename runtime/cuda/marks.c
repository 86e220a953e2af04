// Marks on GPUs: an event behind each action on every stream. An event that has not passed names the action that is
// stuck; with timing, the time between two neighbours is what the action took on that stream, waits included.
#include "mp_run.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

// A step that mp_step_begin and mp_step_end enclose.
struct step {
	const char *name;
	double predicted;       // seconds
	int stream;             // of the rank's
	cudaEvent_t begin, end;
};

struct mp_marks {
	bool timed;
	int device, streams, capacity;
	cudaStream_t stream[MP_STREAMS];
	const char *name[MP_STREAMS];
	cudaEvent_t *event;                             // [capacity + 1][streams]: row 0 is the schedule's start
	_Atomic(const struct mp_schedule *) schedule;   // NULL: this run is not marked
	atomic_int enqueued;                            // actions
	double started;
	struct step *steps;                             // since mp_marks_start, in the order of their calls
	int step_count, step_capacity, step_events;     // step_events: the first so many have their events
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
	for (int i = 0; i < m->step_events; i++) {
		CUDA(cudaEventDestroy(m->steps[i].begin));
		CUDA(cudaEventDestroy(m->steps[i].end));
	}
	free(m->steps);
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
	m->step_count = 0;
	record_row(m, 0);
	atomic_store(&m->enqueued, 0);
	atomic_store(&m->schedule, schedule);
}

void mp_mark(struct mp_marks *m, int action)
{
	record_row(m, action + 1);
	atomic_store(&m->enqueued, action + 1);
}

// The next step, with its events, which are kept for the next time.
static struct step *take_step(struct mp_marks *m)
{
	if (m->step_count == m->step_capacity) {
		m->step_capacity = m->step_capacity ? 2 * m->step_capacity : 1024;
		m->steps = realloc(m->steps, (size_t)m->step_capacity * sizeof *m->steps);
		if (!m->steps)
			mp_fail(MP_IO_FAILED, "out of host memory for --trace");
	}
	struct step *step = &m->steps[m->step_count++];
	if (m->step_count > m->step_events) {
		CUDA(cudaEventCreateWithFlags(&step->begin, cudaEventDefault));
		CUDA(cudaEventCreateWithFlags(&step->end, cudaEventDefault));
		m->step_events++;
	}
	return step;
}

void mp_step_begin(struct mp_rank *r, const char *name, double predicted, cudaStream_t stream)
{
	struct mp_marks *m = r->marks;

	if (!r->trace)
		return;
	struct step *step = take_step(m);
	step->name = name;
	step->predicted = 1e-6 * predicted;
	step->stream = 0;
	while (m->stream[step->stream] != stream)
		step->stream++;
	CUDA(cudaEventRecord(step->begin, stream));
}

void mp_step_end(struct mp_rank *r, cudaStream_t stream)
{
	if (r->trace)
		CUDA(cudaEventRecord(r->marks->steps[r->marks->step_count - 1].end, stream));
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

static double seconds_at(const struct mp_marks *m, cudaEvent_t event)
{
	float ms;
	CUDA(cudaEventElapsedTime(&ms, m->event[0], event));
	return m->started + 1e-3 * (double)ms;
}

void mp_marks_trace(struct mp_marks *m, struct mp_trace *t)
{
	const struct mp_schedule *schedule = atomic_load(&m->schedule);

	for (int s = 0; s < m->streams; s++) {
		CUDA(cudaStreamSynchronize(m->stream[s]));
		for (int i = 0; schedule && i < schedule->count; i++) {
			double begin = seconds_at(m, m->event[i * m->streams + s]), end = seconds_at(m, m->event[(i + 1) * m->streams + s]);
			if (end - begin > 1.5e-6) // the action did something on this stream
				mp_trace_add(t, m->name[s], schedule->actions[i].name, begin, end, -1);
		}
	}
	for (int i = 0; schedule && i < m->step_count; i++) {
		const struct step *step = &m->steps[i];
		mp_trace_add(t, m->name[step->stream], step->name, seconds_at(m, step->begin), seconds_at(m, step->end), step->predicted);
	}
}
