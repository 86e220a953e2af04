// mp_data.h: where a program's numbers come from and where they go: data sets, initial values, checkpoints and
// inference output; and the messages between ranks that writing them together takes.
//
// This header is the seam between the training loop (options, launch, report) and the readers and writers
// (data*.c, checkpoint.c, safetensors.c). Functions here fail as all of the runtime does: through mp_fail.
#ifndef MP_DATA_H
#define MP_DATA_H

#include "mp.h"

// ---------------------------------------------------------------------------------------------------------
// Data sets: samples on the host. One a process, read-only after opening, shared by the rank threads.

struct mp_dataset;

// Opens `path`: a folder of IDX files (train-* or, when evaluation, t10k-*), a safetensors file with tensors named
// like the inputs of m, "synthetic" or, where the spec declared token data, one of the files that token_files.c lists.
// Checks names, types, shapes and label ranges against m->inputs. Labels may be missing where m->training is false.
struct mp_dataset *mp_dataset_open(const struct mp_model *m, const char *path, bool evaluation);

// Token data: keeps the first `split` (of 1) of the tokens, or the others when the set is for evaluation or inference.
void mp_dataset_split(struct mp_dataset *d, double split);

// Token data: the number of ids, which go to `ids` unless it is NULL.
long mp_dataset_ids(const struct mp_dataset *d, int32_t *ids);

// Samples in the whole set; 0 where it has no end ("synthetic" may choose any positive number instead).
long mp_dataset_samples(const struct mp_dataset *d);

// Whether the set holds values for an input of the spec (labels may be missing in inference).
bool mp_dataset_has(const struct mp_dataset *d, const char *input);

void mp_dataset_close(struct mp_dataset *d);

// ---------------------------------------------------------------------------------------------------------
// Loaders: one a rank and data set. A loader fills pinned buffers with this rank's samples of a step, one step
// ahead, on a thread of its own. Which samples a step holds depends on seed and step alone, never on the mesh.

struct mp_loader;

// MP_SHUFFLED: the order is drawn anew for each epoch from seed. MP_RANDOM: every sample is drawn anew; for token data,
// whose windows may begin at any token, other data are shuffled then.
enum mp_order { MP_FILE_ORDER, MP_SHUFFLED, MP_RANDOM };

// keep_tail: the last batch of an epoch may be partial and is padded with label -1 (0 for other inputs), for
// evaluation and inference; without it the tail of an epoch is dropped. Fails when the set is smaller than one batch and
// the tail is not kept.
struct mp_loader *mp_loader_new(struct mp_rank *r, struct mp_dataset *d, enum mp_order order, uint64_t seed,
                                bool keep_tail);

// Steps of one epoch.
long mp_loader_steps(const struct mp_loader *l);

// Makes r->input[] point to this rank's samples of global step `step` (epoch = step / mp_loader_steps). The buffers
// stay as they are until mp_loader_prefetch, or without it the next call, is behind another call for this loader. Returns the number of
// real (not padded) samples of the global batch.
long mp_loader_next(struct mp_loader *l, long step);

// Begins to fill the buffers that were not handed out last, with what follows those that were. Nothing may read them any more.
void mp_loader_prefetch(struct mp_loader *l);

// Stops the thread and releases the buffers; r->input[] must not be used afterwards.
void mp_loader_free(struct mp_loader *l);

// ---------------------------------------------------------------------------------------------------------
// State of the model: initial values and checkpoints. All are called by every rank of the run.

// Writes the initial values of all states of r->program into the arena (Philox, keyed by seed, name and global
// element index); padding becomes zero. Returns when the device holds them.
void mp_state_init(struct mp_rank *r, uint64_t seed);

// What a load may accept: states that the files lack, or have in another shape or type, keep their initial values (call
// mp_state_init first); tensors that the model does not use are left alone.
enum mp_allow { MP_ALLOW_MISSING = 1, MP_ALLOW_UNUSED = 2, MP_ALLOW_MISMATCHED = 4 };

// Fills the states of r->program from `path`: a safetensors file, a folder with one or with an index of several, a
// checkpoint folder, or a folder with step_N folders in it (the newest complete one). Sets r->step when there is a
// state.json, to the number of steps already done.
void mp_checkpoint_load(struct mp_rank *r, const char *path, unsigned allow);

// Writes dir/step_N/ with N = step, the number of steps done; every rank writes the slices that it owns. Weights whose
// data has more than `most` bytes (0: any number) become several files with an index. Returns when the checkpoint is
// complete on all ranks. The streams of r must be idle.
void mp_checkpoint_save(struct mp_rank *r, const char *dir, long step, uint64_t seed, uint64_t most);

// ---------------------------------------------------------------------------------------------------------
// Output of inference: one safetensors file with the program's named outputs, `samples` outermost. Every rank calls
// all three; ranks whose program has outputs write their own slices in place.

struct mp_output_writer;

struct mp_output_writer *mp_output_open(struct mp_rank *r, const char *file, long samples);

// Writes r->output[] of one step: samples first_sample .. first_sample + count - 1 of the set, where count is the number
// of real samples of the global batch (what mp_loader_next returned).
void mp_output_write(struct mp_output_writer *w, struct mp_rank *r, long first_sample, long count);

void mp_output_close(struct mp_output_writer *w, struct mp_rank *r);

// ---------------------------------------------------------------------------------------------------------
// Messages between ranks on the host (control.c). Collective: every rank calls the same functions in the same order.
// When a rank fails or is silent for --timeout seconds, the others end with MP_PEER_FAILED.

// Returns when every rank has called it.
void mp_barrier(struct mp_rank *r);

// Copies n bytes of rank `root` to all ranks.
void mp_broadcast(struct mp_rank *r, void *bytes, size_t n, int root);

// Whether any rank passed true.
bool mp_any(struct mp_rank *r, bool flag);

#endif
