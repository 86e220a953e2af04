// checkpoint.h: what the readers and writers of model state share: the pieces of a tensor that a rank stores, the
// tensors of the whole model, and the folder of a checkpoint.
//
//     DIR/step_N/model.safetensors            parameters and buffers (MP_PARAMETER, MP_BUFFER), or, where that is too large,
//                model-0000K-of-0000N.safetensors and model.safetensors.index.json
//                optimizer.safetensors        optimizer state (MP_OPTIMIZER), when there is any
//                config.json                  when the spec says one: what other programs know the model by
//                state.json                   step, seed, sizes and checksums of the files; written last
#ifndef MP_CHECKPOINT_H
#define MP_CHECKPOINT_H

#include "data_files.h"
#include "safetensors.h"

// ---------------------------------------------------------------------------------------------------------
// Between files and devices (checkpoint_shard.c)

// The pieces of a state in files: those of its table, or, where it has none, the whole under its own name, in *own.
const struct mp_piece *mp_pieces_of(const struct mp_state *s, struct mp_piece *own, int *count);

// Whether this rank writes its part to files: of ranks that store the same part, the one with coordinate 0.
bool mp_shard_writes(const struct mp_rank *r, const struct mp_state *s);

// Handles `count` elements of a piece that begin at its element `first`, both as in files; `bytes` is host memory in the
// state's type.
typedef void mp_shard_visit(void *context, const struct mp_state *s, const struct mp_piece *piece, void *bytes, long first,
                            long count);

// Memory of the host for a part of a state that is contiguous on the device.
struct mp_slab {
	size_t most;                    // bytes that fit
	char *memory, *bounce;          // pinned; half as many bytes, for runs that are not contiguous in it and for halves
	size_t offset, bytes;           // what it holds: its place in the arena
	long lower;                     // that of the second half of its bytes, where these are lower halves of floats; else as of a state
};

enum { MP_FILE_SLAB = 4 << 20 };        // bytes of a slab that files are read into and written from

// Of one allocation: it takes about a millisecond. mp_slabs_close frees them.
void mp_slabs_open(struct mp_slab *slab, int count, size_t most);
void mp_slabs_close(struct mp_slab *slab, int count);

// Floats of a slab become their upper halves and, behind these, their lower ones; and back. room: for 2 bytes of each. (checkpoint_halves.c)
void mp_slab_split(char *values, long count, char *room);
void mp_slab_join(char *values, long count, char *room);

// Copies a slab to its place on the device, and returns when the device holds it.
void mp_slab_to_device(const struct mp_rank *r, const struct mp_slab *slab);

// Fills the state in the arena: calls visit for every run of elements that the rank stores, a slab at a time, and copies to
// the device. Padding becomes zero; with `keep`, what visit leaves alone keeps the device's value. Returns when the device
// holds it.
void mp_shard_fill(struct mp_rank *r, const struct mp_state *s, const struct mp_slab *slab, bool keep, mp_shard_visit *visit,
                   void *context);

// Copies the state from the arena, in parts, and calls visit for every run.
void mp_shard_read(struct mp_rank *r, const struct mp_state *s, const struct mp_slab *slab, mp_shard_visit *visit, void *context);

// How many bytes the rank stores of the state, how many slabs of at most `most` bytes hold them, and filling one of these
// without the device, for mp_slab_to_device: any thread may.
size_t mp_shard_bytes(const struct mp_rank *r, const struct mp_state *s);
long mp_shard_slabs(const struct mp_rank *r, const struct mp_state *s, size_t most);
void mp_shard_fill_slab(const struct mp_rank *r, const struct mp_state *s, long number, struct mp_slab *slab,
                        mp_shard_visit *visit, void *context);

// ---------------------------------------------------------------------------------------------------------
// The folder (checkpoint_folder.c)

enum { MP_MODEL_FILE, MP_OPTIMIZER_FILE, MP_CHECKPOINT_FILES };
extern const char *const mp_checkpoint_file[MP_CHECKPOINT_FILES];       // "model.safetensors", …
extern const char mp_checkpoint_index[];                                // "model.safetensors.index.json"

// Which of the files holds a state, and its type there: integers of the model are I64, as PyTorch's are.
int mp_checkpoint_file_of(const struct mp_state *s);
enum mp_file_type mp_checkpoint_type(const struct mp_state *s);

struct mp_checkpoint_entry {
	char *name;
	uint64_t bytes, sum;
};

// Its entries and their names are the caller's to free: mp_checkpoint_state_free.
struct mp_checkpoint_state {
	uint64_t step, seed;
	uint64_t batch;                 // samples of a step: with seed and step the place in the data; 0: not known
	struct mp_checkpoint_entry *entries;
	int count;
};

void mp_checkpoint_add_entry(struct mp_checkpoint_state *state, const char *name, uint64_t bytes, uint64_t sum);
void mp_checkpoint_state_free(struct mp_checkpoint_state *state);
bool mp_checkpoint_lists(const struct mp_checkpoint_state *state, const char *name);

// Checksum of bytes at a place in a file. Sums over disjoint parts add up (modulo 2^64) to that of the whole, so every
// rank sums what it writes. Offset and n are multiples of 4.
uint64_t mp_checksum(const void *bytes, size_t n, uint64_t offset);

// Reads a checkpoint's state.json. False, with the reason in *why (free it), when there is none or it is malformed.
bool mp_checkpoint_state_read(const char *folder, struct mp_checkpoint_state *state, char **why);
// Whether the files are those that state describes, every byte of them.
bool mp_checkpoint_verify(const char *folder, const struct mp_checkpoint_state *state, char **why);
void mp_checkpoint_state_write(const char *folder, const struct mp_checkpoint_state *state);

// ---------------------------------------------------------------------------------------------------------
// What files hold and the model wants (checkpoint_check.c)

// The tensor of a file that is this piece: of its name or its tied one, with or without the model's prefix, and of its
// shape and a type that converts. NULL: there is none.
const struct mp_tensor *mp_checkpoint_tensor(const struct mp_model *m, const struct mp_tensors *set, const struct mp_state *s,
                                             const struct mp_piece *piece);

// Compares the tensors of a file with the states of all roles; ends the program with every name that is wrong and not
// allowed (enum mp_allow), and says what is. set is NULL where there is no file: the message then names `path`.
void mp_checkpoint_check(const struct mp_model *m, struct mp_tensors *set, int file, const char *path, unsigned allow);

#endif
