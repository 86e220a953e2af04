// checkpoint_save.c: writing a checkpoint that is either complete or not there.
//
// All ranks write their slices into one set of files at once: the header is known in advance (safetensors_layout.c),
// so no tensor is ever gathered on one rank, and the files hold the logical model whatever the mesh. Rank 0 makes the
// folder step_N.tmp and the files at their final size; all write and flush; rank 0 writes state.json, flushes the
// folder, renames it to step_N and flushes the parent. A folder without .tmp at its end is therefore complete.
#ifndef _GNU_SOURCE
#define _GNU_SOURCE             // renameat2
#endif
#include "checkpoint.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

// One file of the checkpoint while it is written.
struct writer {
	struct mp_layout layout;
	const struct mp_layout_tensor *tensor;  // the one that is being written
	char *path;
	int fd;
	uint64_t sum;                           // of what this rank wrote
};

// The tensors of a file that the whole model owns, whichever role stores them.
static void lay_out(struct mp_layout *l, const struct mp_model *m, int file)
{
	for (int stage = 0; stage < m->axis[MP_PP]; stage++) {
		const struct mp_program *p = m->program(stage);
		for (int i = 0; i < p->state_count; i++) {
			const struct mp_state *s = &p->states[i];
			if (s->owned && mp_checkpoint_file_of(s) == file)
				mp_layout_add(l, s->name, mp_checkpoint_type(s), s->dims, s->shape);
		}
	}
	if (l->count)
		mp_layout_finish(l);
}

static void write_bytes(struct writer *w, const void *bytes, size_t n, uint64_t offset)
{
	mp_write_at(w->fd, w->path, bytes, n, offset);
	w->sum += mp_checksum(bytes, n, offset);
}

static void write_run(void *context, const struct mp_state *s, void *bytes, long first, long count)
{
	struct writer *w = context;
	size_t size = mp_file_type_bytes(w->tensor->type);
	uint64_t offset = w->tensor->offset + (uint64_t)first * size;
	if (w->tensor->type == mp_file_type_of(s->type)) {
		write_bytes(w, bytes, (size_t)count * size, offset);
		return;
	}
	int64_t *wide = mp_allocate((size_t)count * sizeof *wide);      // the only other type: mp_checkpoint_type
	for (long i = 0; i < count; i++)
		wide[i] = ((const int32_t *)bytes)[i];
	write_bytes(w, wide, (size_t)count * sizeof *wide, offset);
	free(wide);
}

// Writes this rank's slices of one file and the header, when it is rank 0.
static void write_slices(struct mp_rank *r, struct writer *w, int file)
{
	w->fd = mp_open_write(w->path);
	if (r->rank == 0)
		write_bytes(w, w->layout.header, w->layout.header_bytes, 0);
	for (int i = 0; i < r->program->state_count; i++) {
		const struct mp_state *s = &r->program->states[i];
		if (mp_checkpoint_file_of(s) != file || !mp_shard_writes(r, s))
			continue;
		w->tensor = mp_layout_find(&w->layout, s->name);
		mp_shard_read(r, s, write_run, w);
	}
	mp_sync_and_close(w->fd, w->path);
}

// Puts the folder in place. One of that name, of an earlier run, gives way in the same instant.
static void publish(const char *temporary, const char *folder)
{
	if (!mp_exists(folder)) {
		mp_rename(temporary, folder);
	} else if (renameat2(AT_FDCWD, temporary, AT_FDCWD, folder, RENAME_EXCHANGE)) {
		// A file system that cannot exchange: the old one makes room first.
		char *old = mp_text("%s.old.tmp", folder);
		mp_remove_folder(old);
		mp_rename(folder, old);
		mp_rename(temporary, folder);
		mp_sync_parent(folder);
		mp_remove_folder(old);
		free(old);
	} else {
		mp_sync_parent(folder);
		mp_remove_folder(temporary);
	}
	mp_sync_parent(folder);
}

// Adds up the checksums of all ranks: complete on rank 0. Returns when every rank has flushed its files.
static void add_sums(struct mp_rank *r, const struct writer *w, struct mp_checkpoint_state *state)
{
	uint64_t mine[MP_CHECKPOINT_FILES], *all = r->rank == 0 ? mp_allocate((size_t)r->world * sizeof mine) : NULL;
	for (int file = 0; file < MP_CHECKPOINT_FILES; file++) {
		mine[file] = w[file].sum;
		state->bytes[file] = w[file].layout.file_bytes;
	}
	mp_gather(r, mine, sizeof mine, all);
	for (int k = 0; all && k < r->world; k++)
		for (int file = 0; file < MP_CHECKPOINT_FILES; file++)
			state->sum[file] += all[k * MP_CHECKPOINT_FILES + file];
	free(all);
}

void mp_checkpoint_save(struct mp_rank *r, const char *dir, long step, uint64_t seed)
{
	char *folder = mp_text("%s/step_%ld", dir, step), *temporary = mp_text("%s.tmp", folder);
	struct writer w[MP_CHECKPOINT_FILES] = {0};
	struct mp_checkpoint_state state = {.step = (uint64_t)step, .seed = seed, .batch = (uint64_t)r->model->batch};
	if (r->rank == 0) {
		mp_make_folders(dir);
		mp_remove_folder(temporary);
		mp_make_folders(temporary);
	}
	for (int file = 0; file < MP_CHECKPOINT_FILES; file++) {
		w[file].path = mp_text("%s/%s", temporary, mp_checkpoint_file[file]);
		lay_out(&w[file].layout, r->model, file);
		if (r->rank == 0 && w[file].layout.count)
			close(mp_create(w[file].path, w[file].layout.file_bytes));
	}
	mp_barrier(r);
	for (int file = 0; file < MP_CHECKPOINT_FILES; file++)
		if (w[file].layout.count)
			write_slices(r, &w[file], file);
	add_sums(r, w, &state);
	if (r->rank == 0) {
		mp_checkpoint_state_write(temporary, &state);
		mp_sync_folder(temporary);
		publish(temporary, folder);
	}
	mp_barrier(r);
	for (int file = 0; file < MP_CHECKPOINT_FILES; file++) {
		mp_layout_free(&w[file].layout);
		free(w[file].path);
	}
	free(temporary);
	free(folder);
}
