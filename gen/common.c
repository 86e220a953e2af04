// common.c: memory, lists, text and names.
//
// A run of mpgen makes many small objects that all live until it ends, and passes link them freely. An arena gives
// them one lifetime: chunks that grow with use, filled from the front, freed together. Nothing is ever freed alone,
// so no object can outlive what it points to, and list and text growth may leave the old copy behind.
#include "common.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 16, FIRST_CHUNK = 64 << 10, LARGEST_CHUNK = 8 << 20 };

typedef struct Chunk Chunk;
struct Chunk {
	Chunk *next;
	size_t used, size;
	_Alignas(ALIGNMENT) unsigned char bytes[];
};

struct Arena {
	Chunk *chunks;          // the one being filled first
};

static _Noreturn void out_of_memory(size_t bytes)
{
	fail(EXIT_BUG, "out of memory (asked for %zu bytes)", bytes);
}

static void *allocate(size_t bytes)
{
	void *memory = calloc(1, bytes);
	if (!memory)
		out_of_memory(bytes);
	return memory;
}

Arena *arena_new(void)
{
	return allocate(sizeof(Arena));
}

void arena_free(Arena *arena)
{
	for (Chunk *chunk = arena->chunks; chunk;) {
		Chunk *next = chunk->next;
		free(chunk);
		chunk = next;
	}
	free(arena);
}

// Chunks double, so that a small run stays small and a large one makes few of them.
static Chunk *add_chunk(Arena *arena, size_t bytes)
{
	size_t size = arena->chunks ? 2 * arena->chunks->size : FIRST_CHUNK;
	if (size > LARGEST_CHUNK)
		size = LARGEST_CHUNK;
	if (size < bytes)
		size = bytes;
	Chunk *chunk = allocate(sizeof *chunk + size);
	chunk->size = size;
	chunk->next = arena->chunks;
	arena->chunks = chunk;
	return chunk;
}

void *arena_alloc(Arena *arena, size_t bytes)
{
	if (bytes > SIZE_MAX / 4)
		out_of_memory(bytes);
	bytes = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
	Chunk *chunk = arena->chunks;
	if (!chunk || chunk->size - chunk->used < bytes)
		chunk = add_chunk(arena, bytes);
	void *memory = chunk->bytes + chunk->used;
	chunk->used += bytes;
	return memory;
}

char *arena_strdup(Arena *arena, const char *text)
{
	size_t bytes = strlen(text) + 1;
	return memcpy(arena_alloc(arena, bytes), text, bytes);
}

char *arena_printf(Arena *arena, const char *format, ...)
{
	va_list arguments, again;
	va_start(arguments, format);
	va_copy(again, arguments);
	int length = vsnprintf(NULL, 0, format, arguments);
	va_end(arguments);
	assert(length >= 0);
	char *text = arena_alloc(arena, (size_t)length + 1);
	vsnprintf(text, (size_t)length + 1, format, again);
	va_end(again);
	return text;
}

void list_grow(Arena *arena, void **at, int count, int *capacity, size_t size)
{
	if (count < *capacity)
		return;
	int larger = *capacity ? 2 * *capacity : 8;
	if (larger < *capacity)
		out_of_memory(SIZE_MAX);
	void *memory = arena_alloc(arena, (size_t)larger * size);
	if (count)
		memcpy(memory, *at, (size_t)count * size);
	*at = memory;
	*capacity = larger;
}

// Room for `length` more bytes and the NUL.
static void text_reserve(Text *text, size_t length)
{
	size_t needed = text->length + length + 1;
	if (needed <= text->capacity)
		return;
	size_t capacity = text->capacity ? 2 * text->capacity : 256;
	if (capacity < needed)
		capacity = needed;
	char *memory = arena_alloc(text->arena, capacity);
	if (text->length)
		memcpy(memory, text->at, text->length);
	text->at = memory;
	text->capacity = capacity;
}

void text_add_bytes(Text *text, const char *bytes, size_t length)
{
	text_reserve(text, length);
	if (length)
		memcpy(text->at + text->length, bytes, length);
	text->length += length;
	text->at[text->length] = 0;
}

void text_add(Text *text, const char *format, ...)
{
	va_list arguments, again;
	va_start(arguments, format);
	va_copy(again, arguments);
	int length = vsnprintf(NULL, 0, format, arguments);
	va_end(arguments);
	assert(length >= 0);
	text_reserve(text, (size_t)length);
	vsnprintf(text->at + text->length, (size_t)length + 1, format, again);
	va_end(again);
	text->length += (size_t)length;
}

// ---- names

static uint64_t hash_name(const char *name)
{
	uint64_t hash = 0xcbf29ce484222325u; // FNV-1a
	for (; *name; name++)
		hash = (hash ^ (unsigned char)*name) * 0x100000001b3u;
	return hash;
}

static NameUse *find_name(const NameTable *names, const char *name)
{
	for (uint64_t i = hash_name(name);; i++) {
		NameUse *use = &names->at[i & (names->capacity - 1)];
		if (!use->name || !strcmp(use->name, name))
			return use;
	}
}

static void grow_names(Arena *arena, NameTable *names)
{
	NameTable old = *names;
	*names = (NameTable){.count = old.count, .capacity = old.capacity ? old.capacity * 2 : 64};
	names->at = arena_alloc(arena, names->capacity * sizeof *names->at);
	for (size_t i = 0; i < old.capacity; i++)
		if (old.at[i].name)
			*find_name(names, old.at[i].name) = old.at[i];
}

NameUse *count_name(Arena *arena, NameTable *names, const char *name)
{
	if (names->count * 2 >= names->capacity)
		grow_names(arena, names);
	NameUse *use = find_name(names, name);
	if (!use->name) {
		use->name = arena_strdup(arena, name);
		names->count++;
	}
	use->uses++;
	return use;
}
