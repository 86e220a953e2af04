// checkpoint.h: what the readers and writers of model state share: the pieces of a tensor that a rank stores, the
// tensors of the whole model, and the folder of a checkpoint.
//
//     DIR/step_N/model.safetensors            parameters and buffers (MP_PARAMETER, MP_BUFFER)
//                optimizer.safetensors        optimizer state (MP_OPTIMIZER), when there is any
//                state.json                   step, seed, sizes and checksums of the files; written last
#ifndef MP_CHECKPOINT_H
#define MP_CHECKPOINT_H

#include "data_files.h"
#include "safetensors.h"

// ---------------------------------------------------------------------------------------------------------
// Pieces (checkpoint_shard.c)

// The part of a logical tensor that one rank stores, as runs of elements that lie together in both. Dims have the order
// of files, also where the device has another (channels_last).
struct mp_shard {
	int dims;
	long shape[MP_DIMS];            // logical
	long local[MP_DIMS];            // stored, padding included
	long start[MP_DIMS];            // first logical element
	long valid[MP_DIMS];            // elements that are no padding
	long elements;                  // stored
	long runs, run;                 // how many runs, and the elements of each
	int outer;                      // dims outside of a run
};

struct mp_shard mp_shard_of(const struct mp_rank *r, const struct mp_state *s);

// Where run i begins in the logical and in the stored tensor, in elements.
void mp_shard_at(const struct mp_shard *shard, long i, long *logical, long *stored);

// Whether this rank writes its piece to files: of ranks that store the same piece, the one with coordinate 0.
bool mp_shard_writes(const struct mp_rank *r, const struct mp_state *s);

// Handles `count` elements that begin at logical element `first`; `bytes` is host memory in the state's type.
typedef void mp_shard_visit(void *context, const struct mp_state *s, void *bytes, long first, long count);

// Fills the state in the arena: calls visit for every run, in pieces of a few megabytes (or one filter), then copies to
// the device. Padding becomes zero. Returns when the device holds it.
void mp_shard_fill(struct mp_rank *r, const struct mp_state *s, mp_shard_visit *visit, void *context);

// Copies the state from the arena, in pieces, and calls visit for every run.
void mp_shard_read(struct mp_rank *r, const struct mp_state *s, mp_shard_visit *visit, void *context);

// ---------------------------------------------------------------------------------------------------------
// The folder (checkpoint_folder.c)

enum { MP_MODEL_FILE, MP_OPTIMIZER_FILE, MP_CHECKPOINT_FILES };
extern const char *const mp_checkpoint_file[MP_CHECKPOINT_FILES];       // "model.safetensors", …

// Which of the files holds a state, and its type there: integers of the model are I64, as PyTorch's are.
int mp_checkpoint_file_of(const struct mp_state *s);
enum mp_file_type mp_checkpoint_type(const struct mp_state *s);

struct mp_checkpoint_state {
	uint64_t step, seed;
	uint64_t batch;                 // samples of a step: with seed and step the place in the data; 0: not known
	uint64_t bytes[MP_CHECKPOINT_FILES], sum[MP_CHECKPOINT_FILES];  // bytes 0: no such file
};

// Checksum of bytes at a place in a file. Sums over disjoint parts add up (modulo 2^64) to that of the whole, so every
// rank sums what it writes. Offset and n are multiples of 4.
uint64_t mp_checksum(const void *bytes, size_t n, uint64_t offset);

// Reads a checkpoint's state.json. False, with the reason in *why (free it), when there is none or it is malformed.
bool mp_checkpoint_state_read(const char *folder, struct mp_checkpoint_state *state, char **why);
// Whether the files are those that state describes, every byte of them.
bool mp_checkpoint_verify(const char *folder, const struct mp_checkpoint_state *state, char **why);
void mp_checkpoint_state_write(const char *folder, const struct mp_checkpoint_state *state);

#endif
