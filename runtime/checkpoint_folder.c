// checkpoint_folder.c: what makes a folder a checkpoint: state.json, its sizes and checksums.
//
// A machine may stop at any time, and a file system may then have lost or torn any write that was not flushed. The
// order of flushes and the rename (checkpoint_save.c) are the first line; the checksums are the second, which also
// finds what a disk or a copy did later. The checksum has to be computed by many ranks that each write slices in no
// order, so it is a sum over 4-byte words of a mix of the word and its place: a word that is missing, changed or moved
// changes it, the order of adding does not.
#include "checkpoint.h"
#include "json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *const mp_checkpoint_file[MP_CHECKPOINT_FILES] = {
	[MP_MODEL_FILE] = "model.safetensors", [MP_OPTIMIZER_FILE] = "optimizer.safetensors",
};

const char mp_checkpoint_index[] = "model.safetensors.index.json";

enum { STATE_BYTES = 1 << 20, VERIFY_BYTES = 1 << 20 };

int mp_checkpoint_file_of(const struct mp_state *s)
{
	return s->kind == MP_OPTIMIZER ? MP_OPTIMIZER_FILE : MP_MODEL_FILE;
}

enum mp_file_type mp_checkpoint_type(const struct mp_state *s)
{
	return s->kind == MP_BUFFER && s->type == MP_I32 ? MP_FILE_I64 : mp_file_type_of(s->type);
}

uint64_t mp_checksum(const void *bytes, size_t n, uint64_t offset)
{
	const char *at = bytes;
	uint64_t sum = 0;
	for (size_t i = 0; i + 4 <= n; i += 4) {
		uint32_t word;
		memcpy(&word, at + i, 4);
		uint64_t x = ((offset + i) / 4 + 1) * 0x9E3779B97F4A7C15 ^ word;
		x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9;         // the finalizer of splitmix64
		x = (x ^ x >> 27) * 0x94D049BB133111EB;
		sum += x ^ x >> 31;
	}
	return sum;
}

void mp_checkpoint_add_entry(struct mp_checkpoint_state *state, const char *name, uint64_t bytes, uint64_t sum)
{
	state->entries = realloc(state->entries, (size_t)(state->count + 1) * sizeof *state->entries);
	if (!state->entries)
		mp_fail(MP_IO_FAILED, "no memory for the files of a checkpoint");
	state->entries[state->count++] = (struct mp_checkpoint_entry){mp_text("%s", name), bytes, sum};
}

void mp_checkpoint_state_free(struct mp_checkpoint_state *state)
{
	for (int i = 0; i < state->count; i++)
		free(state->entries[i].name);
	free(state->entries);
	*state = (struct mp_checkpoint_state){0};
}

bool mp_checkpoint_lists(const struct mp_checkpoint_state *state, const char *name)
{
	for (int i = 0; i < state->count; i++)
		if (!strcmp(state->entries[i].name, name))
			return true;
	return false;
}

// Whether a name is one that mp_checkpoint_save gives, so that no other file of the machine is looked at.
static bool is_file_name(const char *name)
{
	return (!strncmp(name, "model", 5) || !strcmp(name, mp_checkpoint_file[MP_OPTIMIZER_FILE])) && !strchr(name, '/');
}

// An object {"bytes":…,"checksum":…} for each file.
static void read_files(struct mp_json *j, struct mp_checkpoint_state *state)
{
	mp_json_object(j);
	for (char *name; (name = mp_json_key(j)); ) {
		uint64_t bytes = 0, sum = 0;
		if (!is_file_name(name))
			mp_json_refuse(j, "an unknown file is listed");
		mp_json_object(j);
		for (char *key; (key = mp_json_key(j)); ) {
			if (!strcmp(key, "bytes"))
				bytes = mp_json_integer(j);
			else if (!strcmp(key, "checksum"))
				sum = mp_json_integer(j);
			else
				mp_json_skip(j);
		}
		mp_checkpoint_add_entry(state, name, bytes, sum);
	}
}

static void parse_state(struct mp_json *j, struct mp_checkpoint_state *state)
{
	bool step = false;
	mp_json_object(j);
	for (char *key; (key = mp_json_key(j)); ) {
		if (!strcmp(key, "step")) {
			state->step = mp_json_integer(j);
			step = true;
		} else if (!strcmp(key, "seed")) {
			state->seed = mp_json_integer(j);
		} else if (!strcmp(key, "batch")) {
			state->batch = mp_json_integer(j);
		} else if (!strcmp(key, "files")) {
			read_files(j, state);
		} else {
			mp_json_skip(j);
		}
	}
	bool model = mp_checkpoint_lists(state, mp_checkpoint_file[MP_MODEL_FILE]) || mp_checkpoint_lists(state, mp_checkpoint_index);
	if (!j->error && (!step || state->step > INT64_MAX || !model))
		mp_json_refuse(j, "the step or the size of model.safetensors is missing");
}

bool mp_checkpoint_state_read(const char *folder, struct mp_checkpoint_state *state, char **why)
{
	char *path = mp_text("%s/state.json", folder), *text = mp_allocate(STATE_BYTES);
	bool good = false;
	FILE *f = fopen(path, "rb");
	*state = (struct mp_checkpoint_state){0};
	if (!f) {
		*why = mp_text("%s cannot be opened", path);
	} else {
		struct mp_json j;
		size_t n = fread(text, 1, STATE_BYTES, f);
		mp_json_start(&j, text, n);
		parse_state(&j, state);
		good = mp_json_end(&j);
		if (!good)
			*why = mp_text("%s: %s at byte %ld", path, j.error, mp_json_at(&j));
		fclose(f);
	}
	free(text);
	free(path);
	return good;
}

static bool verify_file(const char *path, uint64_t bytes, uint64_t sum, char **why)
{
	if (!mp_exists(path)) {
		*why = mp_text("%s is missing", path);
		return false;
	}
	int fd = mp_open_read(path);
	uint64_t size = mp_file_bytes(fd, path), found = 0;
	char *buffer = mp_allocate(VERIFY_BYTES);
	for (uint64_t at = 0; size == bytes && at < size; at += VERIFY_BYTES) {
		size_t n = size - at < VERIFY_BYTES ? (size_t)(size - at) : VERIFY_BYTES;
		mp_read_at(fd, path, buffer, n, at);
		found += mp_checksum(buffer, n, at);
	}
	free(buffer);
	close(fd);
	if (size != bytes)
		*why = mp_text("%s has %llu bytes, state.json says %llu", path, (unsigned long long)size,
		               (unsigned long long)bytes);
	else if (found != sum)
		*why = mp_text("%s is damaged: its checksum is %llu, state.json says %llu", path,
		               (unsigned long long)found, (unsigned long long)sum);
	return size == bytes && found == sum;
}

bool mp_checkpoint_verify(const char *folder, const struct mp_checkpoint_state *state, char **why)
{
	bool good = true;
	for (int i = 0; good && i < state->count; i++) {
		const struct mp_checkpoint_entry *entry = &state->entries[i];
		char *path = mp_text("%s/%s", folder, entry->name);
		good = verify_file(path, entry->bytes, entry->sum, why);
		free(path);
	}
	return good;
}

void mp_checkpoint_state_write(const char *folder, const struct mp_checkpoint_state *state)
{
	char *path = mp_text("%s/state.json", folder);
	char *text = mp_text("{\"step\":%llu,\"seed\":%llu,\"batch\":%llu,\"files\":{", (unsigned long long)state->step,
	                     (unsigned long long)state->seed, (unsigned long long)state->batch);
	for (int i = 0; i < state->count; i++) {
		const struct mp_checkpoint_entry *entry = &state->entries[i];
		char *before = text;
		text = mp_text("%s%s\"%s\":{\"bytes\":%llu,\"checksum\":%llu}", before, i ? "," : "", entry->name,
		               (unsigned long long)entry->bytes, (unsigned long long)entry->sum);
		free(before);
	}
	char *whole = mp_text("%s}}\n", text);
	int fd = mp_create(path, 0);
	mp_write_at(fd, path, whole, strlen(whole), 0);
	mp_sync_and_close(fd, path);
	free(whole);
	free(text);
	free(path);
}
