// mp.h: everything an emitted program links against.
//
// An emitted program is a set of constant tables (struct mp_model and one struct mp_program for each role)
// and the functions that these tables name. The runtime owns all mutable state in struct mp_rank: one rank is
// one device. On GPUs a rank is a process; on the host build ranks started by hand are threads of one
// process, so nothing here may live in a mutable global.
//
// Errors: functions of the runtime do not return on failure. They print one line that says what, where and
// what would work, and end the program with the exit status of enum mp_exit.
#ifndef MP_H
#define MP_H

#include "mp_addends.h"
#include "mp_bf16.h"
#include "mp_copies.h"

#include <cuda_runtime_api.h>
#include <nccl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define MP_NORETURN [[noreturn]]
extern "C" {
#else
#define MP_NORETURN _Noreturn
#endif

enum mp_exit {
	MP_DONE = 0,
	MP_BAD_INPUT = 1,       // wrong spec input or data: a missing file, a wrong size, a label out of range
	MP_USAGE = 2,
	MP_DEVICE_FAILED = 3,   // CUDA, NCCL, cuBLASLt or cuDNN
	MP_IO_FAILED = 4,
	MP_RANKS_DIFFER = 5,    // build hash or world size
	MP_PEER_FAILED = 6,     // another rank failed, or nothing moved for --timeout seconds
	MP_NOT_FINITE = 7,      // the loss is NaN or infinite
	MP_BUG = 70
};

enum mp_type { MP_F32, MP_F64, MP_I32, MP_BF16 };

// Mesh axes. Rank number = (pp * dp_size + dp) * tp_size + tp.
enum mp_axis { MP_DP, MP_TP, MP_PP, MP_AXES, MP_WHOLE = -1 };

enum { MP_DIMS = 6, MP_ALIGN = 256 };

struct mp_rank;

// ---------------------------------------------------------------------------------------------------------
// Tables: const data of the emitted program.

// How the elements of a tensor start. Values depend on the seed, the tensor's name and the *global* element
// index alone (Philox 4x32-10), so every mesh starts from the same bits.
struct mp_init {
	enum { MP_CONSTANT, MP_UNIFORM, MP_NORMAL } kind;
	double a, b;            // CONSTANT: a; UNIFORM: [a, b); NORMAL: mean a, standard deviation b
};

// How a part of a state lies in files: as a tensor of its own name, with the part's dims in another order, and several
// of them written as one. What no piece of a state covers is padding: it is zero and in no file.
struct mp_piece {
	const char *name;               // in files: "h.0.attn.c_attn.weight"
	const char *tied;               // another name of the same tensor, which a file may have as well or instead; or NULL
	long from[MP_DIMS];             // the part: first index and extent in each dim of the state
	long extent[MP_DIMS];
	int order[MP_DIMS];             // dims of the state from the outermost in files to the innermost
	int dims;                       // of the tensor in files, whose elements are those of the part in that order
	long shape[MP_DIMS];
};

// States without lower halves: whole, or, for inference, which computes with them, the upper halves of f32 alone.
enum mp_stored { MP_STORED_WHOLE = -1, MP_UPPER_ALONE = -2 };

// One logical tensor of the model's state, and the part of it that a rank of this role stores.
// A dim that axis shards is split into equal pieces of ceil(shape / size) elements; the last pieces may be
// partly or wholly padding, which is zero and never leaves the device.
struct mp_state {
	const char *name;               // "fc1.weight"; optimizer state "fc1.weight.momentum"
	// A BUFFER is part of the model but not trained: "bn1.running_mean". An integer one (i32 here) is I64 in files.
	enum { MP_PARAMETER, MP_OPTIMIZER, MP_BUFFER } kind;
	enum mp_type type;
	int dims;
	long shape[MP_DIMS];            // logical, in the order of the device
	int axis[MP_DIMS];              // enum mp_axis that shards the dim, or MP_WHOLE
	size_t offset;                  // bytes from the arena's start; local row-major, padded extents
	long lower;                     // the same of the lower halves of f32 whose upper ones are at offset (mp_halves.h), or enum mp_stored
	const struct mp_piece *pieces;  int piece_count;     // in files; none: the whole, under its name
	struct mp_init init;
	bool owned;                     // this role writes it to checkpoints (a shared parameter has one owner)
};

// One input of the spec as this role reads it. The device holds the inputs of a whole step:
// [microbatches][samples of a micro-batch on this rank][sample dims]. Micro-batch k of replica d holds the samples
// k * (batch / microbatches) + d * (batch / microbatches / dp) and following of the global batch.
struct mp_input {
	const char *name;               // "image"
	enum mp_type type;
	int dims;                       // of one sample
	long shape[MP_DIMS];            // of one sample
	long limit;                     // labels: valid values are -1 (ignored) and 0 .. limit-1; 0: no limit
};

// A named output of --mode infer; the host buffer holds the outputs of a whole step in the layout of mp_input,
// gathered over tp.
struct mp_output {
	const char *name;
	enum mp_type type;
	int dims;
	long shape[MP_DIMS];            // of one sample
};

// A scalar that a step reports, of the model's compute type. Loss and accuracy are means over the `count`
// valid labels of the global batch; count < 0: a mean over all samples.
struct mp_metric {
	const char *name;               // "loss", "accuracy"; counts are metrics too, named "loss.count"
	int count;                      // index of the metric that holds the number of valid labels, or -1
	bool evaluation;                // computed only while r->evaluating
};

enum mp_transpose { MP_NN, MP_NT, MP_TN };      // C = A B, A B^T, A^T B
enum mp_epilogue {
	MP_NO_EPILOGUE, MP_BIAS, MP_RELU, MP_BIAS_RELU, MP_GELU, MP_BIAS_GELU,
	MP_GELU_AUX, MP_BIAS_GELU_AUX,  // mp_gemm_keep: what GELU reads is a result as well
	MP_GELU_GRAD                    // mp_gemm_grad: times the slope of GELU
};

// C[m,n] (+)= op(A) op(B) (+ bias[n]), then the activation; all row-major and dense. k is the summed extent. Sums of products
// of bf16 are f32, and what the epilogue gives is rounded once: GELU, in the tanh form, sees what was not rounded yet.
// The epilogues of GELU are for operands and results of one type, n and k multiples of 8, 16 bytes of alignment.
struct mp_gemm {
	const char *name;               // the model's node, for messages and traces
	int m, n, k;
	enum mp_transpose transpose;
	enum mp_epilogue epilogue;
	enum mp_type type, out;         // of A and B; of C and bias: the same, or f32 where the operands are bf16
	bool tf32;
	int alignment;                  // bytes that every operand's address is a multiple of: 16, or less where a slot is odd
};

// A 2-d convolution of channels-last images (a correlation, as everywhere in deep learning), or one of its gradients:
//   y[n,p,q,k] = sum over (i, j, c) of x[n, p stride + i dilation - padding, .., c] w[k,i,j,c] (+ bias[k])
// x: [n,h,w,c], w: [k,r,s,c/groups], y: [n,p,q,k]; p = (h + 2 padding - dilation (r - 1) - 1) / stride + 1, q likewise.
// Output channels k/groups * g and following read the input channels c/groups * g and following.
enum mp_conv_kind {
	MP_CONV_FORWARD,                // y from x and w
	MP_CONV_INPUT_GRAD,             // dx from dy and w
	MP_CONV_WEIGHT_GRAD             // dw from dy and x
};
struct mp_conv {
	const char *name;               // the model's node, for messages and traces
	enum mp_conv_kind kind;
	int n, h, w, c, k, r, s, p, q;
	int stride[2], padding[2], dilation[2], groups; // of height and width
	bool bias;                      // MP_CONV_FORWARD only
	enum mp_type type;
	bool tf32;
	int alignment;                  // as of struct mp_gemm
	int slice;                      // f32 by tensor cores on GPUs: how many samples, a divisor of n, the workspace is for at once; else 0
};
enum { MP_CONV_SLICE = 32 };            // channels whose products tensor cores then add up before they are rounded (cuda/conv_split.c)

// Causal self-attention of packed heads, or its gradient. qkv [tokens, batch, groups, queries + 2, size] holds in each group the
// query heads, the key head that they share, and the value head:
//   o[t,b,g,h,:] = sum over s <= t of p[t,s] v[s],   p[t,.] = softmax of q[t] . k[s] / sqrt(size)
//   lse[b,g,h,t] = log of the sum of exp(q[t] . k[s] / sqrt(size)), which the gradient computes p from again
// o and its gradient are [tokens, batch, groups, queries, size]; lse [batch, groups, queries, tokens] is f32, or f64 with f64.
// With dropout, while training: p[t,s] of some s count as 0 in o, and those of the others as p[t,s] / (1 - dropout).
struct mp_attention {
	const char *name;               // the model's node, for messages and traces
	bool gradient;
	int tokens, batch, groups, queries, size;
	int slice;                      // how many pairs of a sample and a group the workspace is for at once
	bool any_order;                 // in bf16: the fastest engine as timed at start, and dq summed in no fixed order
	double dropout;                 // the share of weights that are dropped; 0: all are kept
	int heads;                      // with dropout: query heads of all devices
	enum mp_type type;              // of all but lse
	int alignment;                  // as of struct mp_gemm
};

// What a call of attention with dropout draws from, so that every plan drops the same weights; {} without.
struct mp_dropped {
	const int *key;                 // on the device: seed and step, what r->random_key holds on the host
	unsigned layer;                 // tells layers apart
	long sample, head;              // of its first sample in the whole batch, of its first query head among `heads`
};

// One entry of a schedule. Compute actions have one micro-batch; an action that sends one micro-batch while it
// receives another has two. Actions outside the micro-batch loop have -1.
struct mp_action {
	const char *name;               // "0F2", "1SEND_F2+RECV_B0", "prologue"
	void (*run)(struct mp_rank *r, int first, int second);
	int first, second;
};

struct mp_schedule {
	const struct mp_action *actions;
	int count;
};

// What one role runs.
struct mp_program {
	const char *name;               // "program_0"
	size_t arena_bytes;             // of one device, everything included
	size_t workspace_offset, workspace_bytes; // of library calls; that of the side stream, where it makes some, lies behind
	struct { size_t offset, bytes; } exchange[MP_AXES]; // of what copy engines carry over each axis; 0 bytes: nothing
	const struct mp_state *states;   int state_count;
	const struct mp_input *inputs;   int input_count;
	const struct mp_output *outputs; int output_count;
	const struct mp_metric *metrics; int metric_count;  // only the role that reports has any
	const struct mp_gemm *gemms;     int gemm_count;
	const struct mp_conv *convs;     int conv_count;
	const struct mp_attention *attentions; int attention_count;
	int event_count;
	void (*load_kernels)(void);     // makes the device hold every kernel of kernels.cu
	struct mp_schedule train, evaluate, infer;          // those the mode has; others have count 0
	void (*loaded)(struct mp_rank *r, int, int);        // behind the initialisation or loading of weights; NULL: nothing to do
	const void *constant;                               // data that kernels read, copied into the arena at start; NULL: none
	size_t constant_offset, constant_bytes;
	bool side;                                          // the side stream has work
};

// Learning rate of step s (from 0) of n: warm-up steps rise linearly to base, then it stays there, or falls from base to
// `least`, which step n would have: linearly or along half a cosine.
struct mp_learning_rate {
	double base;
	enum { MP_LR_CONSTANT, MP_LR_LINEAR, MP_LR_COSINE } kind;
	int warmup;
	double least;
};

// What the spec declared; --data may name a safetensors file for any of them. Token data have the inputs "tokens" and
// "labels", i32 with the context as their only dim; labels are the next tokens.
enum mp_data { MP_DATA_IDX, MP_DATA_TENSORS, MP_DATA_TOKENS };

// What the spec says of files of weights beside the pieces of each state.
struct mp_files {
	const char *prefix;             // that every name in files may have or lack: "transformer."; NULL: none
	const char *const *ignored;     int ignored_count;   // patterns of names that are no part of the model: "*.attn.bias"
	const char *config;             // text of config.json beside saved weights; NULL: none
};

struct mp_model {
	const char *name;               // of the program: bin/NAME
	const char *build;              // hash of the emitted sources: all ranks must agree
	enum mp_type type;              // of losses and metrics
	bool training;                  // false: --mode infer
	int axis[MP_AXES];              // mesh sizes
	int batch, microbatches;        // samples a step over all replicas; micro-batches a replica
	int steps;                      // default of --steps; 0: one epoch
	enum mp_data data;
	long vocabulary;                // MP_DATA_TOKENS: ids are below it
	struct mp_learning_rate learning_rate;
	const struct mp_input *inputs;   int input_count;   // every input of the spec, whichever role reads it
	const struct mp_program *(*program)(int stage);     // role of a pp coordinate
	const struct mp_files *files;                       // NULL: nothing is said
};

// Where a buffer lies in the arena: micro-batch mb uses offset + mb % slots * stride.
struct mp_place {
	size_t offset;
	int slots;
	size_t stride;
};

// ---------------------------------------------------------------------------------------------------------
// The rank: all mutable state. The first part is what emitted code uses.

struct mp_rank {
	char *arena;                                        // device memory, program->arena_bytes
	cudaStream_t compute, dp_stream, tp_stream, pp_stream;
	cudaStream_t side;                                  // less urgent than compute: what the chain of a step does not wait for; NULL: none
	ncclComm_t dp_comm, tp_comm, pp_comm;               // NULL where the axis has size 1
	int dp, tp, pp;                                     // coordinates
	cudaEvent_t *event;                                 // program->event_count of them, timing disabled
	bool evaluating;        // and in inference: nothing is drawn at random, running statistics normalise
	void **input;           // pinned, one for each program input: this step's samples, all micro-batches
	void *learning_rate;    // pinned scalar, f64 in a model of f64, else f32: this step's learning rate
	int32_t *step_number;   // pinned scalar: this step, from 1, of which Adam's bias correction is a function
	int32_t *random_key;    // pinned: low and high word of --seed, this step (from 0), 0: what dropout draws from
	void **output;          // pinned, one for each program output
	void *metrics;          // pinned, metric_count scalars of the model's type

	// The runtime's own.
	const struct mp_model *model;
	const struct mp_program *program;
	int rank, world;
	const struct mp_options *options;
	struct mp_session *session;                         // what the ranks of a process share
	struct mp_control *control;                         // messages between ranks outside NCCL
	struct mp_engines *engines[MP_AXES];                // NULL: NCCL carries all of the axis
	struct mp_gemm_plan *gemm_plans;
	struct mp_conv_plan *conv_plans;
	struct mp_attention_plan *attention_plans;
	struct mp_loop *loop;                               // loaders and counters of the main loop
	struct mp_watch *watch;                             // what the watchdog sees of this rank
	struct mp_marks *marks;                             // events around the actions, for traces and the watchdog
	struct mp_trace *trace;
	struct mp_graphs *graphs;
	int input_slot;                                     // which of its alternating buffers a loader gave to input[]
	struct mp_report *report;                           // NULL where another rank reports
	size_t device_bytes;                                // sum of all device allocations, counted where made
	long step, steps;                                   // steps done; where to end
};

// First element and number of valid elements of a dim of `extent` that `size` ranks share, at coordinate c.
static inline long mp_shard_extent(long extent, int size) { return (extent + size - 1) / size; }
static inline long mp_shard_valid(long extent, int size, int c)
{
	long piece = mp_shard_extent(extent, size), left = extent - c * piece;
	return left < 0 ? 0 : left < piece ? left : piece;
}

// How many of `classes` coordinate c has, when each has up to `columns` of them; what is left of its columns is padding.
static inline long mp_shard_classes(long classes, long columns, int c)
{
	long left = classes - c * columns;
	return left < 0 ? 0 : left < columns ? left : columns;
}

// ---------------------------------------------------------------------------------------------------------
// Called from emitted code.

// C = op(A) op(B) with the epilogue, or C += op(A) op(B) when accumulate (no epilogue then). Enqueued on stream.
// bias may be NULL when the epilogue has none. Pointers are device memory, aligned as the table says.
void mp_gemm(struct mp_rank *r, const struct mp_gemm *gemm, const void *a, const void *b, const void *bias,
             void *c, bool accumulate, cudaStream_t stream);

// The same for a row of the table whose activation keeps what it reads: before = op(A) op(B) (+ bias), C = GELU of it.
void mp_gemm_keep(struct mp_rank *r, const struct mp_gemm *gemm, const void *a, const void *b, const void *bias, void *before,
                  void *c, cudaStream_t stream);

// The same for a row with the gradient of an activation: C = op(A) op(B) times the slope of GELU at `before`.
void mp_gemm_grad(struct mp_rank *r, const struct mp_gemm *gemm, const void *a, const void *b, const void *before, void *c,
                  cudaStream_t stream);

// result = a convolution of the table, of a and b as its kind lists them; result += with accumulate, which
// MP_CONV_WEIGHT_GRAD alone takes. bias is NULL where the table has none. Enqueued on stream.
void mp_conv(struct mp_rank *r, const struct mp_conv *conv, const void *a, const void *b, const void *bias, void *result,
             bool accumulate, cudaStream_t stream);

// o and lse of qkv; a row of the table without `gradient`. Enqueued on stream.
void mp_attention(struct mp_rank *r, const struct mp_attention *attention, const void *qkv, void *o, void *lse, struct mp_dropped dropped,
                  cudaStream_t stream);

// dqkv, the gradient of qkv, from that of o, and from what mp_attention read and gave; a row with `gradient`.
void mp_attention_grad(struct mp_rank *r, const struct mp_attention *attention, const void *d_o, const void *qkv, const void *o,
                       const void *lse, void *dqkv, struct mp_dropped dropped, cudaStream_t stream);

// Collectives of large tensors over dp or tp, enqueued on the axis' stream. The operands lie at the same place in the arena of every rank
// of the axis. Between GPUs of one host copy engines carry them out, which take no multiprocessor from the kernels beside; NCCL does
// where these do not reach each other's memory. Sums are made in the order of ranks, and rounded once. count: elements of the whole
// (all_reduce), of what a rank receives (reduce_scatter; it gives as many for each), of what it gives (all_gather, shift). (exchange.c)
void mp_all_reduce(struct mp_rank *r, enum mp_axis axis, void *data, long count, enum mp_type type);
void mp_reduce_scatter(struct mp_rank *r, enum mp_axis axis, const void *from, void *to, long count, enum mp_type type);

// own: whether the own part of `to` is read as well; else it may stay as it is.
void mp_all_gather(struct mp_rank *r, enum mp_axis axis, const void *from, void *to, long count, enum mp_type type, bool own);

// In place: rank k has `count` elements at k * apart from `data` on, and all others get them there.
void mp_gather_rows(struct mp_rank *r, enum mp_axis axis, void *data, long count, long apart, enum mp_type type);

// To the rank `by` behind this one, from the one as far before it.
void mp_shift(struct mp_rank *r, enum mp_axis axis, const void *from, void *to, long count, enum mp_type type, int by);

// A message between stages of a pipeline, to or from the rank of the same dp and tp.
struct mp_message {
	void *at;
	long count;
	enum mp_type type;
	int stage;              // the other one
	bool send;
	size_t there;           // of one that is sent: where it goes in that rank's arena
};

// Messages that are under way together, on pp_stream. Several with one stage go in rounds: the first that is sent to it with the first that
// comes from it, and the next when both have ended. By copy engines or NCCL, as collectives.
void mp_messages(struct mp_rank *r, const struct mp_message *messages, int count);

// Around the call of each step in programs emitted with --trace-steps: a span of the trace, when there is one. name: of the step;
// it is kept. predicted: microseconds. Calls come in pairs that hold no other pair. (cuda/marks.c, host/marks.c)
void mp_step_begin(struct mp_rank *r, const char *name, double predicted, cudaStream_t stream);
void mp_step_end(struct mp_rank *r, cudaStream_t stream);

MP_NORETURN void mp_fail(enum mp_exit status, const char *format, ...) __attribute__((format(printf, 2, 3)));
MP_NORETURN void mp_cuda_failed(cudaError_t error, const char *call, const char *file, int line);
MP_NORETURN void mp_nccl_failed(ncclResult_t error, const char *call, const char *file, int line);

#define CUDA(call) do { cudaError_t error_ = (call); \
	if (error_ != cudaSuccess) mp_cuda_failed(error_, #call, __FILE__, __LINE__); } while (0)
#define NCCL(call) do { ncclResult_t error_ = (call); \
	if (error_ != ncclSuccess && error_ != ncclInProgress) mp_nccl_failed(error_, #call, __FILE__, __LINE__); } while (0)

// Entry: parses options, starts the ranks and calls `body` once for each rank of this process.
// Returns the exit status.
int mp_main(const struct mp_model *model, int argc, char **argv, int (*body)(struct mp_rank *r));

#ifdef __cplusplus
}
#endif
#endif
