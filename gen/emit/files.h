// files.h: reading an emitted directory.
#ifndef FILES_H
#define FILES_H

#include "emit.h"

typedef LIST(const char *) Paths;

// A handle of the directory, or -1.
int open_output(Arena *arena, const char *directory);

// The bytes of a file below root (NUL-terminated besides), or NULL. Links are not followed.
const char *read_below(Arena *arena, int root, const char *path, size_t *length);

// What the manifest lists, and the manifest; nothing when there is none.
Paths listed_files(Arena *arena, int root);

#endif
