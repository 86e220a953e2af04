// test.h: what the tests of data, random numbers and checkpoints share: checks, refusals, ranks that are threads.
#ifndef DATA_TEST_H
#define DATA_TEST_H

#define _DEFAULT_SOURCE      // mkdir, mkdtemp, truncate

#include "checkpoint.h"
#include "data.h"
#include "json.h"
#include "random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHECK(condition) check(condition, #condition, __FILE__, __LINE__)
void check(bool good, const char *what, const char *file, int line);

// The statement must end the program with this status and a message that holds `part`. It runs in a child process.
#define REFUSES(status, part, statement) do { \
	if (refuse_child()) { statement; _exit(0); } \
	refuse_check(status, part, __FILE__, __LINE__); } while (0)
bool refuse_child(void);
void refuse_check(int status, const char *part, const char *file, int line);

// Whether what goes to stderr is thrown away: notes about what is skipped are right there.
void quiet(bool on);

// Calls body for each rank of the model's mesh, each on its own thread with its own arena; they may use barriers.
// The arenas start as 0xAB bytes, so that padding that nobody writes is seen.
void run_ranks(const struct mp_model *m, void (*body)(struct mp_rank *r, void *context), void *context);

// A file of these bytes; the text of a path below the test's folder (one of a few static buffers).
void write_file(const char *path, const void *bytes, size_t n);
char *read_file(const char *path, size_t *n);
const char *at(const char *name);

void test_random(void);
void test_json(void);
void test_safetensors(void);
void test_checkpoint(void);
void test_filters(void);
void test_data(void);
void test_idx(void);
void test_loader(void);
void test_tokens(void);
void test_outputs(void);

#endif
