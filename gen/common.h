// common.h: what every room of the compiler uses: memory, lists, source locations, diagnostics.
#ifndef COMMON_H
#define COMMON_H

#include <assert.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Exit status of mpgen.
enum { EXIT_DONE = 0, EXIT_SPEC = 1, EXIT_USAGE = 2, EXIT_DOES_NOT_FIT = 3, EXIT_IO = 4, EXIT_STALE = 5, EXIT_BUG = 70 };

// Memory of one run: everything that a pass makes lives until the arena is freed. Allocation never fails
// (out of memory ends the program with EXIT_BUG) and returns zeroed memory aligned to 16 bytes.
typedef struct Arena Arena;
Arena *arena_new(void);
void arena_free(Arena *arena);
void *arena_alloc(Arena *arena, size_t bytes);
char *arena_printf(Arena *arena, const char *format, ...) __attribute__((format(printf, 2, 3)));
char *arena_strdup(Arena *arena, const char *text);

// A growing array: LIST(Node *) nodes; list_add(arena, &nodes, node); nodes.at[i], nodes.count.
#define LIST(T) struct { T *at; int count, capacity; }
#define list_add(arena, list, value) \
	(list_grow(arena, (void **)&(list)->at, (list)->count, &(list)->capacity, sizeof *(list)->at), \
	 (list)->at[(list)->count++] = (value))
void list_grow(Arena *arena, void **at, int count, int *capacity, size_t size);

// Text that grows. text_add appends; the bytes live in the arena, at is NUL-terminated.
typedef struct {
	Arena *arena;
	char *at;
	size_t length, capacity;
} Text;
void text_add(Text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
void text_add_bytes(Text *text, const char *bytes, size_t length);

// Where a node was made: the lines of the user's files in the Lua call chain, innermost first. file is as the user
// named it.
typedef struct Location Location;
struct Location {
	const char *file;
	int line;               // from 1; 0: the whole file
	const Location *caller; // NULL at the outermost
	const Location *library; // the line of the built-in library that was reached from here, or NULL
};

// Ends mpgen with EXIT_SPEC after printing "file:line: error: …", the source line, and the message's further
// lines (split at '\n') as notes, then "called from file:line" for each caller. location may be NULL.
_Noreturn void fail_at(const Location *location, const char *format, ...) __attribute__((format(printf, 2, 3)));

// The same with another exit status and no location: "mpgen: error: …".
_Noreturn void fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

// Names and how often each was asked for: a hash table with open addressing, at most half full. Zeros are an empty one.
typedef struct {
	const char *name;
	int uses;
} NameUse;

typedef struct {
	NameUse *at;
	size_t count, capacity; // a power of two
} NameTable;

// Counts one use of the name more; of a new name it is the first. Valid until the next call.
NameUse *count_name(Arena *arena, NameTable *names, const char *name);

// "file:line: warning: …" (or "mpgen: warning: …" where location is NULL); quiet when diagnostics_quiet(true) was called.
void warn_at(const Location *location, const char *format, ...) __attribute__((format(printf, 2, 3)));
void diagnostics_quiet(bool quiet);

// The candidate nearest to `name` by edit distance, or NULL when none is near (more than a third of its letters off).
const char *nearest_name(const char *name, const char *const *candidates, int count);

#endif
