// Marks on the host: behind each action a closure on every stream notes that the stream came so far. For traces there is
// something finer: the stand-in records every operation that it executes, so timed marks enqueue nothing; closures on the
// stream note when steps that mp_step_begin and mp_step_end enclose begin and end.
#include "mp_run.h"
#include "mp_host.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

// A step that mp_step_begin and mp_step_end enclose, in the order of their calls.
struct step {
	const char *name, *stream;
	double predicted, begin, end;   // seconds
	struct step *next;
};

struct mp_marks {
	bool timed;
	int streams;
	cudaStream_t stream[MP_STREAMS];
	const char *name[MP_STREAMS];
	_Atomic(const struct mp_schedule *) schedule;   // NULL: this run is not marked
	atomic_int passed[MP_STREAMS];                  // actions that the stream has done
	struct step *steps, *last;
};

struct note {
	atomic_int *passed;
	int action;
};

struct mp_marks *mp_marks_new(struct mp_rank *r, bool timed)
{
	struct mp_marks *m = mp_allocate(sizeof *m);

	m->timed = timed;
	m->streams = mp_streams(r, m->stream, m->name);
	for (int s = 0; s < m->streams; s++)
		mp_host_name_stream(m->stream[s], m->name[s]);
	if (timed)
		mp_host_trace_start();
	return m;
}

void mp_marks_free(struct mp_marks *m)
{
	if (m->timed)
		mp_host_trace_stop();
	free(m);
}

void mp_marks_start(struct mp_marks *m, const struct mp_schedule *schedule)
{
	for (int s = 0; s < m->streams; s++)
		atomic_store(&m->passed[s], 0);
	atomic_store(&m->schedule, schedule);
}

static void pass(void *closure)
{
	struct note *note = closure;
	atomic_store(note->passed, note->action + 1);
}

void mp_mark(struct mp_marks *m, int action)
{
	for (int s = 0; !m->timed && s < m->streams; s++) {
		struct note note = {&m->passed[s], action};
		mp_host_enqueue(m->stream[s], "mark", pass, &note, sizeof note);
	}
}

static void note_begin(void *closure)
{
	(*(struct step **)closure)->begin = mp_seconds();
}

static void note_end(void *closure)
{
	(*(struct step **)closure)->end = mp_seconds();
}

void mp_step_begin(struct mp_rank *r, const char *name, double predicted, cudaStream_t stream)
{
	struct mp_marks *m = r->marks;
	int s = 0;

	if (!r->trace)
		return;
	while (m->stream[s] != stream)
		s++;
	struct step *step = mp_allocate(sizeof *step);
	*step = (struct step){.name = name, .stream = m->name[s], .predicted = 1e-6 * predicted};
	*(m->steps ? &m->last->next : &m->steps) = step;
	m->last = step;
	mp_host_enqueue(stream, "step begins", note_begin, &step, sizeof step);
}

void mp_step_end(struct mp_rank *r, cudaStream_t stream)
{
	if (r->trace)
		mp_host_enqueue(stream, "step ends", note_end, &r->marks->last, sizeof r->marks->last);
}

void mp_marks_stop(struct mp_marks *m)
{
	atomic_store(&m->schedule, NULL);
}

const char *mp_marks_pending(struct mp_marks *m, char *text, size_t size)
{
	const struct mp_schedule *schedule = atomic_load(&m->schedule);
	size_t used = 0;

	if (m->timed || !schedule) {
		snprintf(text, size, "unknown, this step was not marked");
		return text;
	}
	snprintf(text, size, "nothing");
	for (int s = 0; s < m->streams; s++) {
		int passed = atomic_load(&m->passed[s]);
		if (passed < schedule->count && used < size)
			used += (size_t)snprintf(text + used, size - used, "%s%s on %s", used ? ", " : "", schedule->actions[passed].name,
			                         m->name[s]);
	}
	return text;
}

void mp_marks_trace(struct mp_marks *m, struct mp_trace *t)
{
	struct mp_host_event events[64];
	size_t n;

	while ((n = mp_host_trace_take(events, sizeof events / sizeof *events)) > 0)
		for (size_t i = 0; i < n; i++)
			mp_trace_add(t, events[i].stream, events[i].name, 1e-9 * (double)events[i].start, 1e-9 * (double)events[i].end, -1);
	for (struct step *step = m->steps, *next; step; step = next) {
		next = step->next;
		mp_trace_add(t, step->stream, step->name, step->begin, step->end, step->predicted);
		free(step);
	}
	m->steps = m->last = NULL;
}
