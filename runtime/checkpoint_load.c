// checkpoint_load.c: from files to the state of every rank.
//
// Files hold logical tensors, so any mesh can load what any other mesh saved: each rank reads the slices that it
// stores. Rank 0 alone decides which files to read and whether they fit the model, over all roles, so that one rank
// prints one complete message and no rank starts to read what another refuses.
#define _POSIX_C_SOURCE 200809L
#include "checkpoint.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_BYTES = 4096 };

// What to read, as rank 0 found it.
struct source {
	char path[MP_CHECKPOINT_FILES][PATH_BYTES];     // of its files; "": none
	bool checkpoint;                                // with state.json
	uint64_t step, seed, batch;
};

static void set_path(char out[PATH_BYTES], const char *folder, const char *name)
{
	if (snprintf(out, PATH_BYTES, "%s%s%s", folder, name[0] ? "/" : "", name) >= PATH_BYTES)
		mp_fail(MP_BAD_INPUT, "the path %s is too long", folder);
}

// ---------------------------------------------------------------------------------------------------------
// Finding the files (rank 0)

// Takes the checkpoint in `folder` if it is whole; otherwise says why not.
static bool take_checkpoint(struct source *source, const char *folder, char **why)
{
	struct mp_checkpoint_state state;
	if (!mp_checkpoint_state_read(folder, &state, why) || !mp_checkpoint_verify(folder, &state, why)) {
		mp_checkpoint_state_free(&state);
		return false;
	}
	for (int file = 0; file < MP_CHECKPOINT_FILES; file++)
		if (mp_checkpoint_lists(&state, mp_checkpoint_file[file]))
			set_path(source->path[file], folder, mp_checkpoint_file[file]);
	if (mp_checkpoint_lists(&state, mp_checkpoint_index))
		set_path(source->path[MP_MODEL_FILE], folder, mp_checkpoint_index);
	source->checkpoint = true;
	source->step = state.step;
	source->seed = state.seed;
	source->batch = state.batch;
	mp_checkpoint_state_free(&state);
	return true;
}

static int compare_steps(const void *a, const void *b)
{
	long x = *(const long *)a, y = *(const long *)b;
	return (x < y) - (x > y);
}

// Steps N of the folders step_N in dir, newest first. The caller frees them.
static long *list_steps(const char *dir, long *count)
{
	long *steps = NULL;
	DIR *folder = opendir(dir);
	*count = 0;
	for (struct dirent *entry; folder && (entry = readdir(folder)); ) {
		const char *digits = entry->d_name + 5;
		size_t n = strncmp(entry->d_name, "step_", 5) ? 0 : strspn(digits, "0123456789");
		if (n == 0 || n > 18 || digits[n] || (digits[0] == '0' && n > 1))
			continue;
		long *more = realloc(steps, (size_t)(*count + 1) * sizeof *steps);
		if (!more)
			mp_fail(MP_IO_FAILED, "no memory for the list of checkpoints in %s", dir);
		steps = more;
		steps[(*count)++] = strtol(digits, NULL, 10);
	}
	if (folder)
		closedir(folder);
	if (*count > 1)
		qsort(steps, (size_t)*count, sizeof *steps, compare_steps);
	return steps;
}

static void take_newest(struct source *source, const char *dir)
{
	long count;
	long *steps = list_steps(dir, &count);
	for (long i = 0; i < count; i++) {
		char *folder = mp_text("%s/step_%ld", dir, steps[i]), *why = NULL;
		bool taken = take_checkpoint(source, folder, &why);
		if (!taken)
			fprintf(stderr, "skipped the checkpoint %s: %s\n", folder, why);
		free(why);
		free(folder);
		if (taken)
			break;
	}
	if (count == 0)
		mp_fail(MP_BAD_INPUT, "%s holds no step_N folder, no model.safetensors and no model.safetensors.index.json", dir);
	if (!source->checkpoint)
		mp_fail(MP_BAD_INPUT, "none of the %ld checkpoints in %s is complete", count, dir);
	free(steps);
}

static bool has_file(const char *folder, const char *name)
{
	char path[PATH_BYTES];
	set_path(path, folder, name);
	return mp_exists(path);
}

static void find_source(struct source *source, const char *path)
{
	char *why = NULL;
	if (!mp_is_folder(path)) {
		set_path(source->path[MP_MODEL_FILE], path, "");
	} else if (has_file(path, "state.json")) {
		if (!take_checkpoint(source, path, &why))
			mp_fail(MP_BAD_INPUT, "%s is not a complete checkpoint: %s", path, why);
	} else if (has_file(path, mp_checkpoint_file[MP_OPTIMIZER_FILE])) {
		mp_fail(MP_BAD_INPUT, "%s is not a complete checkpoint: it has optimizer state but no state.json", path);
	} else if (has_file(path, mp_checkpoint_index)) {
		set_path(source->path[MP_MODEL_FILE], path, mp_checkpoint_index);
	} else if (has_file(path, mp_checkpoint_file[MP_MODEL_FILE])) {
		set_path(source->path[MP_MODEL_FILE], path, mp_checkpoint_file[MP_MODEL_FILE]);
	} else {
		take_newest(source, path);
	}
}

// ---------------------------------------------------------------------------------------------------------
// Checking that they fit the model (rank 0)

static bool reads_file(const struct mp_program *p, int file)
{
	for (int i = 0; i < p->state_count; i++)
		if (mp_checkpoint_file_of(&p->states[i]) == file)
			return true;
	return false;
}

static void check_source(const struct mp_model *m, const struct source *source, const char *path, unsigned allow)
{
	for (int file = 0; file < MP_CHECKPOINT_FILES; file++) {
		// A file of weights has no optimizer state, and inference needs none.
		if (file == MP_OPTIMIZER_FILE && (!source->checkpoint || !m->training))
			continue;
		struct mp_tensors *set = source->path[file][0] ? mp_tensors_open(source->path[file]) : NULL;
		mp_checkpoint_check(m, set, file, path, allow);
		if (set)
			mp_tensors_close(set);
	}
}

// ---------------------------------------------------------------------------------------------------------
// Reading

struct reading {
	const struct mp_model *model;
	const struct mp_tensors *set;
	const struct mp_piece *piece;           // that tensor is
	const struct mp_tensor *tensor;         // NULL: there is none
	char *raw;                              // values of another type
	size_t raw_bytes;
};

static void read_run(void *context, const struct mp_state *s, const struct mp_piece *piece, void *bytes, long first, long count)
{
	struct reading *in = context;
	if (in->piece != piece)
		in->tensor = mp_checkpoint_tensor(in->model, in->set, s, piece);
	in->piece = piece;
	if (!in->tensor)
		return;
	if (in->tensor->type == mp_file_type_of(s->type)) {
		mp_tensors_read(in->set, in->tensor, first, count, bytes);
		return;
	}
	size_t size = (size_t)count * mp_file_type_bytes(in->tensor->type);
	if (size > in->raw_bytes) {
		free(in->raw);
		in->raw = mp_allocate(in->raw_bytes = size);
	}
	mp_tensors_read(in->set, in->tensor, first, count, in->raw);
	long bad = mp_file_convert(in->tensor->type, in->raw, count, s->type, bytes);
	if (bad >= 0)
		mp_fail(MP_BAD_INPUT, "%s: element %ld of tensor %s does not fit into 32 bits", in->set->path, first + bad,
		        in->tensor->name);
}

static void read_states(struct mp_rank *r, const char *path, int file)
{
	struct mp_tensors *set = mp_tensors_open(path);
	struct mp_slab slab;
	mp_slabs_open(&slab, 1, MP_FILE_SLAB);
	for (int i = 0; i < r->program->state_count; i++) {
		const struct mp_state *s = &r->program->states[i];
		struct reading in = {.model = r->model, .set = set};
		struct mp_piece own;
		int pieces, found = 0;
		const struct mp_piece *piece = mp_pieces_of(s, &own, &pieces);
		for (int k = 0; k < pieces; k++)
			found += mp_checkpoint_tensor(r->model, set, s, &piece[k]) != NULL;
		if (mp_checkpoint_file_of(s) == file && found)
			mp_shard_fill(r, s, &slab, found < pieces, read_run, &in);
		free(in.raw);
	}
	mp_slabs_close(&slab, 1);
	mp_tensors_close(set);
}

// Which samples come next is a function of step, seed and batch.
static void tell_other_order(const struct mp_rank *r, const struct source *source)
{
	if (!source->checkpoint || !r->model->training || !r->options)
		return;
	if (source->seed != r->options->seed)
		fprintf(stderr, "the checkpoint was trained with --seed %llu, this run has %llu: its samples have another order\n",
		        (unsigned long long)source->seed, (unsigned long long)r->options->seed);
	if (source->batch && source->batch != (uint64_t)r->model->batch)
		fprintf(stderr, "the checkpoint was trained with batches of %llu samples, this program has %d: step %llu is at another "
		        "place of the data\n", (unsigned long long)source->batch, r->model->batch, (unsigned long long)source->step);
}

void mp_checkpoint_load(struct mp_rank *r, const char *path, unsigned allow)
{
	struct source *source = mp_allocate(sizeof *source);
	if (r->rank == 0) {
		find_source(source, path);
		check_source(r->model, source, path, allow);
		tell_other_order(r, source);
	}
	mp_broadcast(r, source, sizeof *source, 0);
	for (int file = 0; file < MP_CHECKPOINT_FILES; file++)
		if (source->path[file][0] && reads_file(r->program, file))
			read_states(r, source->path[file], file);
	if (source->checkpoint)
		r->step = (long)source->step;
	free(source);
}
