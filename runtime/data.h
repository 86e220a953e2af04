// data.h: what a data set is inside: a column of samples for each input of the spec, or a run of token ids. idx.c,
// data_tensors.c, token_files.c and synthetic*.c open the kinds of data sets; data.c serves samples of any of them.
#ifndef MP_DATA_INSIDE_H
#define MP_DATA_INSIDE_H

#include "data_files.h"
#include "safetensors.h"

// The values of one input: samples lie one after another, not aligned.
struct mp_column {
	const void *values;             // NULL: the set has none
	enum mp_file_type type;         // of the values
	bool scaled;                    // bytes that stand for byte / 255
};

// Token ids, one after another: samples are windows of them (tokens.c).
struct mp_tokens {
	char *path;                     // of the file, for messages
	const void *ids;
	int bytes;                      // of an id: 1, 2 or 4, unsigned
	long first, count;              // the ids that are used
	bool keep_tail;                 // the last window may be short
	const char *part;               // for messages: which part of the file is used
	void *map;                      // what close unmaps; NULL: ids are malloc'ed
	size_t map_bytes;
};

struct mp_dataset {
	const struct mp_model *model;
	char *path;                     // as the user gave it
	long samples;
	long stride;                    // sample k has index k * stride: of token data, where its window starts
	struct mp_column *columns;      // one for each input of the model, in its order
	void **memory;                  // what close frees, one for each input
	struct mp_tensors *tensors;     // of a safetensors file, or NULL
	struct mp_tokens *tokens;       // of token data, or NULL
};

// Fill samples, columns and memory of d; d->path is what the user gave.
void mp_idx_open(struct mp_dataset *d, bool evaluation);
void mp_tensors_dataset_open(struct mp_dataset *d);
void mp_synthetic_open(struct mp_dataset *d, uint64_t seed, bool evaluation);
void mp_token_files_open(struct mp_dataset *d, bool evaluation);
void mp_synthetic_tokens_open(struct mp_dataset *d, uint64_t seed, bool evaluation);

// Makes d a set of the windows of these tokens, which it owns from now on. keep_tail: the last may be short.
void mp_tokens_take(struct mp_dataset *d, struct mp_tokens tokens, bool keep_tail);
void mp_tokens_close(struct mp_tokens *t);

// Where the window of a sample begins, drawn at random; key is that of the seed.
long mp_tokens_draw(const struct mp_dataset *d, uint64_t key, long sample);

// Copies windows to `out`: the ids from start[k] on or, for the input "labels", from the next on. What lies behind the
// end, and all of a window at -1, is padding: 0, and -1 for labels.
void mp_tokens_gather(const struct mp_dataset *d, const struct mp_input *in, const long *start, long count, int32_t *out);

// Elements of one sample of an input.
long mp_input_elements(const struct mp_input *in);

// Whether a sample of this shape is one of the input's: equal up to dims of extent 1, or one of them flat.
bool mp_input_fits(const struct mp_input *in, int dims, const long *shape);

// Whether inference can do without the input: it is a label.
bool mp_input_optional(const struct mp_model *m, const struct mp_input *in);

// Checks every value of an integer column against the input's limit, that of ids against the vocabulary; `file` is for
// the message.
void mp_column_check(const struct mp_model *m, const struct mp_input *in, const struct mp_column *c, long samples, const char *file);

// Index of an input of the model by name, or -1.
int mp_input_index(const struct mp_model *m, const char *name);

// Copies samples to `out` in the input's type: out[k] is sample index[k]; -1 stands for padding, which is -1 for labels
// (i32 with a limit) and 0 otherwise.
void mp_column_gather(const struct mp_input *in, const struct mp_column *c, const long *index, long count, void *out);

#endif
