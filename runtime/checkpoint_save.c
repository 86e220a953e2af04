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
#include <string.h>
#include <unistd.h>

// One file of the checkpoint while it is written.
struct volume {
	struct mp_layout layout;
	char *name, *path;
	int fd;                                 // -1 until this rank writes into it
	uint64_t sum;                           // of what this rank wrote
};

// Everything that is written: volumes [0, weights) hold parameters and buffers, those after them optimizer state.
struct writer {
	struct volume *volumes;
	int count, weights;
	const struct mp_piece *piece;           // the one that is being written, its tensor and where it is
	const struct mp_layout_tensor *tensor;
	struct volume *volume;
};

// The tensors of a file that the whole model owns, whichever role stores them.
static void list_tensors(struct mp_layout *l, const struct mp_model *m, int file)
{
	for (int stage = 0; stage < m->axis[MP_PP]; stage++) {
		const struct mp_program *p = m->program(stage);
		for (int i = 0; i < p->state_count; i++) {
			const struct mp_state *s = &p->states[i];
			struct mp_piece own;
			int pieces;
			const struct mp_piece *piece = mp_pieces_of(s, &own, &pieces);
			for (int k = 0; k < pieces && s->owned && mp_checkpoint_file_of(s) == file; k++)
				mp_layout_add(l, piece[k].name, mp_checkpoint_type(s), piece[k].dims, piece[k].shape);
		}
	}
	if (l->count)
		mp_layout_finish(l);
}

static uint64_t data_bytes(const struct mp_layout_tensor *t)
{
	uint64_t bytes = mp_file_type_bytes(t->type);
	for (int d = 0; d < t->dims; d++)
		bytes *= (uint64_t)t->shape[d];
	return bytes;
}

static struct volume *add_volume(struct writer *w)
{
	w->volumes = realloc(w->volumes, (size_t)(w->count + 1) * sizeof *w->volumes);
	if (!w->volumes)
		mp_fail(MP_IO_FAILED, "no memory for the files of a checkpoint");
	w->volumes[w->count] = (struct volume){.fd = -1};
	return &w->volumes[w->count++];
}

// Splits the tensors of `all`, in their order, into files of at most `most` bytes of data (0: one file).
static void lay_out(struct writer *w, const struct mp_layout *all, const char *name, uint64_t most)
{
	int first = w->count;
	uint64_t filled = 0;
	for (long i = 0; i < all->count; i++) {
		const struct mp_layout_tensor *t = &all->tensors[i];
		uint64_t bytes = data_bytes(t);
		if (i == 0 || (most && filled + bytes > most)) {
			add_volume(w);
			filled = 0;
		}
		filled += bytes;
		mp_layout_add(&w->volumes[w->count - 1].layout, t->name, t->type, t->dims, t->shape);
	}
	for (int i = first; i < w->count; i++) {
		mp_layout_finish(&w->volumes[i].layout);
		w->volumes[i].name = w->count == first + 1 ? mp_text("%s", name) :
		                     mp_text("model-%05d-of-%05d.safetensors", i - first + 1, w->count - first);
	}
}

static void prepare(struct writer *w, const struct mp_rank *r, const char *folder, uint64_t most)
{
	for (int file = 0; file < MP_CHECKPOINT_FILES; file++) {
		struct mp_layout all = {0};
		list_tensors(&all, r->model, file);
		lay_out(w, &all, mp_checkpoint_file[file], file == MP_MODEL_FILE ? most : 0);
		if (file == MP_MODEL_FILE)
			w->weights = w->count;
		mp_layout_free(&all);
	}
	for (int i = 0; i < w->count; i++)
		w->volumes[i].path = mp_text("%s/%s", folder, w->volumes[i].name);
}

static void write_bytes(struct volume *v, const void *bytes, size_t n, uint64_t offset)
{
	if (v->fd < 0)
		v->fd = mp_open_write(v->path);
	mp_write_at(v->fd, v->path, bytes, n, offset);
	v->sum += mp_checksum(bytes, n, offset);
}

static void find_volume(struct writer *w, const struct mp_piece *piece)
{
	w->piece = piece;
	for (int i = 0; i < w->count; i++)
		if ((w->tensor = mp_layout_find(&w->volumes[i].layout, piece->name))) {
			w->volume = &w->volumes[i];
			return;
		}
	mp_fail(MP_BUG, "%s is in no file of the checkpoint", piece->name);
}

static void write_run(void *context, const struct mp_state *s, const struct mp_piece *piece, void *bytes, long first, long count)
{
	struct writer *w = context;
	if (w->piece != piece)
		find_volume(w, piece);
	size_t size = mp_file_type_bytes(w->tensor->type);
	uint64_t offset = w->tensor->offset + (uint64_t)first * size;
	if (w->tensor->type == mp_file_type_of(s->type)) {
		write_bytes(w->volume, bytes, (size_t)count * size, offset);
		return;
	}
	int64_t *wide = mp_allocate((size_t)count * sizeof *wide);      // the only other type: mp_checkpoint_type
	for (long i = 0; i < count; i++)
		wide[i] = ((const int32_t *)bytes)[i];
	write_bytes(w->volume, wide, (size_t)count * sizeof *wide, offset);
	free(wide);
}

// Writes this rank's slices of all files, and the headers, when it is rank 0.
static void write_slices(struct mp_rank *r, struct writer *w)
{
	for (int i = 0; i < w->count && r->rank == 0; i++)
		write_bytes(&w->volumes[i], w->volumes[i].layout.header, w->volumes[i].layout.header_bytes, 0);
	struct mp_slab slab;
	mp_slabs_open(&slab, 1, MP_FILE_SLAB);
	for (int i = 0; i < r->program->state_count; i++) {
		w->piece = NULL;
		if (mp_shard_writes(r, &r->program->states[i]))
			mp_shard_read(r, &r->program->states[i], &slab, write_run, w);
	}
	mp_slabs_close(&slab, 1);
	for (int i = 0; i < w->count; i++)
		if (w->volumes[i].fd >= 0)
			mp_sync_and_close(w->volumes[i].fd, w->volumes[i].path);
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
static void add_sums(struct mp_rank *r, struct writer *w)
{
	size_t size = (size_t)w->count * sizeof(uint64_t);
	uint64_t *mine = mp_allocate(size), *all = r->rank == 0 ? mp_allocate((size_t)r->world * size) : NULL;
	for (int i = 0; i < w->count; i++)
		mine[i] = w->volumes[i].sum;
	mp_gather(r, mine, size, all);
	for (int k = 1; all && k < r->world; k++)
		for (int i = 0; i < w->count; i++)
			w->volumes[i].sum += all[k * w->count + i];
	free(all);
	free(mine);
}

// Writes a text into the folder, its length filled up with newlines to a multiple of what the checksum adds up.
static void write_text(const char *folder, const char *name, const char *text, struct mp_checkpoint_state *listed)
{
	size_t n = strlen(text), length = (n + 3) / 4 * 4;
	char *path = mp_text("%s/%s", folder, name), *padded = mp_allocate(length);
	memset(padded, '\n', length);
	memcpy(padded, text, n);
	int fd = mp_create(path, 0);
	mp_write_at(fd, path, padded, listed ? length : n, 0);
	mp_sync_and_close(fd, path);
	if (listed)
		mp_checkpoint_add_entry(listed, name, length, mp_checksum(padded, length, 0));
	free(padded);
	free(path);
}

static int compare_names(const void *a, const void *b)
{
	return strcmp((*(const struct mp_layout_tensor *const *)a)->name, (*(const struct mp_layout_tensor *const *)b)->name);
}

// Which of several files holds each tensor, in the order of names. The layout of such an index is that of the Hugging
// Face libraries: https://huggingface.co/docs/safetensors
static void write_index(const char *folder, const struct writer *w, struct mp_checkpoint_state *state)
{
	uint64_t total = 0;
	long count = 0, n = 0;
	for (int i = 0; i < w->weights; i++)
		count += w->volumes[i].layout.count;
	const struct mp_layout_tensor **tensors = mp_allocate((size_t)count * sizeof *tensors);
	for (int i = 0; i < w->weights; i++)
		for (long k = 0; k < w->volumes[i].layout.count; k++)
			total += data_bytes(tensors[n++] = &w->volumes[i].layout.tensors[k]);
	qsort(tensors, (size_t)count, sizeof *tensors, compare_names);
	char *text = NULL;
	size_t length = 0;
	FILE *f = open_memstream(&text, &length);
	if (!f)
		mp_fail(MP_IO_FAILED, "no memory for the index of a checkpoint");
	fprintf(f, "{\n  \"metadata\": {\n    \"total_size\": %llu\n  },\n  \"weight_map\": {", (unsigned long long)total);
	for (long i = 0; i < count; i++) {
		int volume = 0;
		while (mp_layout_find(&w->volumes[volume].layout, tensors[i]->name) != tensors[i])
			volume++;
		fputs(i ? ",\n    " : "\n    ", f);
		mp_print_string(f, tensors[i]->name);
		fprintf(f, ": \"%s\"", w->volumes[volume].name);
	}
	fputs("\n  }\n}\n", f);
	if (fclose(f))
		mp_fail(MP_IO_FAILED, "no memory for the index of a checkpoint");
	write_text(folder, mp_checkpoint_index, text, state);
	free(text);
	free(tensors);
}

// What rank 0 adds when all slices are there; state.json is the last.
static void write_rest(const struct mp_rank *r, const struct writer *w, const char *folder, long step, uint64_t seed)
{
	struct mp_checkpoint_state state = {.step = (uint64_t)step, .seed = seed, .batch = (uint64_t)r->model->batch};
	for (int i = 0; i < w->count; i++)
		mp_checkpoint_add_entry(&state, w->volumes[i].name, w->volumes[i].layout.file_bytes, w->volumes[i].sum);
	if (w->weights > 1)
		write_index(folder, w, &state);
	if (r->model->files && r->model->files->config)
		write_text(folder, "config.json", r->model->files->config, NULL);
	mp_checkpoint_state_write(folder, &state);
	mp_sync_folder(folder);
	mp_checkpoint_state_free(&state);
}

void mp_checkpoint_save(struct mp_rank *r, const char *dir, long step, uint64_t seed, uint64_t most)
{
	char *folder = mp_text("%s/step_%ld", dir, step), *temporary = mp_text("%s.tmp", folder);
	struct writer w = {0};
	prepare(&w, r, temporary, most);
	if (r->rank == 0) {
		mp_make_folders(dir);
		mp_remove_folder(temporary);
		mp_make_folders(temporary);
		for (int i = 0; i < w.count; i++)
			close(mp_create(w.volumes[i].path, w.volumes[i].layout.file_bytes));
	}
	mp_barrier(r);
	write_slices(r, &w);
	add_sums(r, &w);
	if (r->rank == 0) {
		write_rest(r, &w, temporary, step, seed);
		publish(temporary, folder);
	}
	mp_barrier(r);
	for (int i = 0; i < w.count; i++) {
		mp_layout_free(&w.volumes[i].layout);
		free(w.volumes[i].path);
		free(w.volumes[i].name);
	}
	free(w.volumes);
	free(temporary);
	free(folder);
}
