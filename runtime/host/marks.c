// Marks on the host: behind each action a closure on every stream notes that the stream came so far. For traces there is
// something finer: the stand-in records every operation that it executes, so timed marks enqueue nothing.
#include "mp_run.h"
#include "mp_host.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

struct mp_marks {
	bool timed;
	int streams;
	cudaStream_t stream[MP_STREAMS];
	const char *name[MP_STREAMS];
	_Atomic(const struct mp_schedule *) schedule;   // NULL: this run is not marked
	atomic_int passed[MP_STREAMS];                  // actions that the stream has done
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

	(void)m;
	while ((n = mp_host_trace_take(events, sizeof events / sizeof *events)) > 0)
		for (size_t i = 0; i < n; i++)
			mp_trace_add(t, events[i].stream, events[i].name, 1e-9 * (double)events[i].start, 1e-9 * (double)events[i].end);
}
