// --trace: what ran when on every stream of every rank, as a Chrome trace (pid = rank, tid = stream). Each rank keeps
// its part in memory; at the end rank 0 collects the parts over the control channel and writes one file, so that ranks
// on other machines are in it too. Clocks of machines differ; on one machine they are the same.
#include "mp_run.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TRACE_LIMIT = 200000 };  // spans a rank; a viewer chokes on more

struct span {
	char name[72], stream[24];
	double begin, end, predicted;
};

struct mp_trace {
	struct span *spans;
	long count, capacity;
};

struct mp_trace *mp_trace_open(void)
{
	return mp_allocate(sizeof(struct mp_trace));
}

void mp_trace_add(struct mp_trace *t, const char *stream, const char *name, double begin, double end, double predicted)
{
	if (t->count == TRACE_LIMIT)
		return;
	if (t->count == t->capacity) {
		t->capacity = t->capacity ? 2 * t->capacity : 1024;
		t->spans = realloc(t->spans, (size_t)t->capacity * sizeof *t->spans);
		if (!t->spans)
			mp_fail(MP_IO_FAILED, "out of host memory for --trace");
	}
	struct span *s = &t->spans[t->count++];
	snprintf(s->name, sizeof s->name, "%s", name);
	snprintf(s->stream, sizeof s->stream, "%s", stream);
	s->begin = begin;
	s->end = end;
	s->predicted = predicted;
}

// Writes the spans of one rank. The names come from the program: plain words without quotes or backslashes.
static void write_rank(FILE *file, int rank, const struct span *spans, long count, double origin)
{
	char streams[16][24];
	int stream_count = 0;

	fprintf(file, "%s{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":%d,\"args\":{\"name\":\"rank %d\"}}",
	        rank ? ",\n" : "", rank, rank);
	for (long i = 0; i < count; i++) {
		int tid = 0;
		while (tid < stream_count && strcmp(streams[tid], spans[i].stream))
			tid++;
		if (tid == stream_count && tid < 16) {
			memcpy(streams[stream_count++], spans[i].stream, sizeof spans[i].stream);
			fprintf(file, ",\n{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":%d,\"tid\":%d,\"args\":{\"name\":\"%s\"}}", rank, tid,
			        spans[i].stream);
		}
		fprintf(file, ",\n{\"ph\":\"X\",\"name\":\"%s\",\"pid\":%d,\"tid\":%d,\"ts\":%.3f,\"dur\":%.3f", spans[i].name, rank, tid,
		        1e6 * (spans[i].begin - origin), 1e6 * (spans[i].end - spans[i].begin));
		if (spans[i].predicted >= 0)
			fprintf(file, ",\"args\":{\"predicted_us\":%.1f}", 1e6 * spans[i].predicted);
		fputs("}", file);
	}
}

static void write_file(const char *path, int world, const struct span *all, const long *counts, long most)
{
	FILE *file = fopen(path, "w");
	double origin = 0;

	if (!file)
		mp_fail(MP_IO_FAILED, "--trace: cannot write %s: %s", path, strerror(errno));
	for (int k = 0; k < world; k++)
		for (long i = 0; i < counts[k]; i++)
			if (origin == 0 || all[k * most + i].begin < origin)
				origin = all[k * most + i].begin;
	fputs("{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n", file);
	for (int k = 0; k < world; k++)
		write_rank(file, k, all + k * most, counts[k], origin);
	fputs("\n]}\n", file);
	if (ferror(file) | fclose(file))
		mp_fail(MP_IO_FAILED, "--trace: cannot write %s: %s", path, strerror(errno));
}

void mp_trace_close(struct mp_trace *t, struct mp_rank *r, const char *file)
{
	long *counts = mp_allocate((size_t)r->world * sizeof *counts), most = 1;

	mp_gather(r, &t->count, sizeof t->count, counts);
	for (int k = 0; k < r->world; k++)
		most = counts[k] > most ? counts[k] : most;
	mp_broadcast(r, &most, sizeof most, 0);
	struct span *own = mp_allocate((size_t)most * sizeof *own), *all = NULL; // padded, so that all parts have one size
	if (t->count)
		memcpy(own, t->spans, (size_t)t->count * sizeof *own);
	if (r->rank == 0)
		all = mp_allocate((size_t)(most * r->world) * sizeof *all);
	mp_gather(r, own, (size_t)most * sizeof *own, all);
	if (r->rank == 0)
		write_file(file, r->world, all, counts, most);
	free(all);
	free(own);
	free(counts);
	free(t->spans);
	free(t);
}
