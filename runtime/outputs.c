// outputs.c: what inference computes, in one safetensors file: each named output of the spec, samples outermost.
//
// The number of samples is known before the first batch, and with it the file's header, so every replica writes its
// samples in place as they come and nothing is collected. The file has a temporary name until it is closed; when the run
// was interrupted, it is cut to the samples that were computed.
#define _POSIX_C_SOURCE 200809L
#include "data_files.h"
#include "safetensors.h"

#include <stdlib.h>
#include <unistd.h>

enum { MOVE_BYTES = 1 << 20 };

struct mp_output_writer {
	char *path, *temporary;
	struct mp_layout layout;
	int fd;                         // -1: this rank has nothing to write
	long samples, written;          // of the whole set
};

// The file of all roles' outputs for so many samples: every rank computes the same header.
static struct mp_layout lay_out(const struct mp_model *m, long samples, const char *path)
{
	struct mp_layout layout = {0};
	for (int stage = 0; stage < m->axis[MP_PP]; stage++) {
		const struct mp_program *p = m->program(stage);
		for (int i = 0; i < p->output_count; i++) {
			const struct mp_output *o = &p->outputs[i];
			long shape[MP_FILE_DIMS] = {samples};
			for (int d = 0; d < o->dims; d++)
				shape[d + 1] = o->shape[d];
			mp_layout_add(&layout, o->name, mp_file_type_of(o->type), o->dims + 1, shape);
		}
	}
	if (layout.count == 0)
		mp_fail(MP_BAD_INPUT, "the spec names no outputs, so there is nothing to write to %s", path);
	mp_layout_finish(&layout);
	return layout;
}

struct mp_output_writer *mp_output_open(struct mp_rank *r, const char *file, long samples)
{
	struct mp_output_writer *w = mp_allocate(sizeof *w);
	w->path = mp_text("%s", file);
	w->temporary = mp_text("%s.tmp", file);
	w->samples = samples;
	w->layout = lay_out(r->model, samples, file);
	if (r->rank == 0) {
		if (mp_is_folder(file))
			mp_fail(MP_IO_FAILED, "cannot write the output %s: it is a folder", file);
		int fd = mp_create(w->temporary, w->layout.file_bytes);
		mp_write_at(fd, w->temporary, w->layout.header, w->layout.header_bytes, 0);
		close(fd);
	}
	mp_barrier(r);
	w->fd = r->program->output_count && r->tp == 0 ? mp_open_write(w->temporary) : -1;
	return w;
}

static size_t sample_bytes(const struct mp_output *o)
{
	size_t bytes = mp_type_bytes(o->type);
	for (int d = 0; d < o->dims; d++)
		bytes *= (size_t)o->shape[d];
	return bytes;
}

// Writes `count` samples of output o that begin at `bytes`, as samples `first` and following of the set.
static void write_samples(struct mp_output_writer *w, const struct mp_output *o, const char *bytes, long first, long count)
{
	uint64_t offset = mp_layout_find(&w->layout, o->name)->offset;
	mp_write_at(w->fd, w->temporary, bytes, (size_t)count * sample_bytes(o), offset + (uint64_t)first * sample_bytes(o));
}

void mp_output_write(struct mp_output_writer *w, struct mp_rank *r, long first_sample, long count)
{
	const struct mp_model *m = r->model;
	long logical = m->batch / m->microbatches, local = logical / m->axis[MP_DP];
	if (first_sample + count > w->samples)
		mp_fail(MP_BUG, "samples %ld to %ld of %ld were to be written", first_sample, first_sample + count - 1,
		        w->samples);
	w->written += count;
	for (int i = 0; w->fd >= 0 && i < r->program->output_count; i++) {
		const struct mp_output *o = &r->program->outputs[i];
		for (long k = 0; k < m->microbatches; k++) {
			long begin = k * logical + r->dp * local, real = count - begin < local ? count - begin : local;
			const char *from = (const char *)r->output[i] + (size_t)(k * local) * sample_bytes(o);
			if (real > 0)
				write_samples(w, o, from, first_sample + begin, real);
		}
	}
}

// Moves n bytes towards the file's start.
static void move_bytes(int in, int out, const char *path, uint64_t from, uint64_t to, uint64_t n)
{
	char *bytes = mp_allocate(MOVE_BYTES);
	for (uint64_t done = 0; done < n; done += MOVE_BYTES) {
		size_t part = n - done < MOVE_BYTES ? (size_t)(n - done) : MOVE_BYTES;
		mp_read_at(in, path, bytes, part, from + done);
		mp_write_at(out, path, bytes, part, to + done);
	}
	free(bytes);
}

// Interrupted: makes the file, which all ranks have written, one of the samples that were computed. Tensors keep their
// order and everything moves down, so each can be moved in turn.
static void shorten(struct mp_output_writer *w, const struct mp_model *m)
{
	struct mp_layout shorter = lay_out(m, w->written, w->path);
	int in = mp_open_read(w->temporary), out = mp_open_write(w->temporary);
	for (long i = 0; i < shorter.count; i++) {
		const struct mp_layout_tensor *t = &shorter.tensors[i];
		uint64_t end = i + 1 < shorter.count ? t[1].offset : shorter.file_bytes;
		move_bytes(in, out, w->temporary, w->layout.tensors[i].offset, t->offset, end - t->offset);
	}
	mp_write_at(out, w->temporary, shorter.header, shorter.header_bytes, 0);
	mp_resize(out, w->temporary, shorter.file_bytes);
	mp_sync_and_close(out, w->temporary);
	close(in);
	mp_layout_free(&shorter);
}

void mp_output_close(struct mp_output_writer *w, struct mp_rank *r)
{
	if (w->fd >= 0)
		mp_sync_and_close(w->fd, w->temporary);
	mp_barrier(r);
	if (r->rank == 0) {
		if (w->written < w->samples)
			shorten(w, r->model);
		mp_rename(w->temporary, w->path);
		mp_sync_parent(w->path);
	}
	mp_barrier(r);
	mp_layout_free(&w->layout);
	free(w->temporary);
	free(w->path);
	free(w);
}
