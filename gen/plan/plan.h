// plan.h: what every device does: the graph placed on a mesh, cut into stages, scheduled, with addresses, streams and events.
//
// A role is what one pipeline stage runs; all ranks of the stage share it (coordinates on dp and tp are data). A role
// has functions (one for each kind of action), a function has steps, a step is one kernel, library call, copy or group
// of NCCL calls. Schedules are lists of actions: a function with a micro-batch.
#ifndef PLAN_H
#define PLAN_H

#include "../graph/graph.h"
#include "../graph/ops.h"

enum { MAX_STAGES = 64, EVERY_MICROBATCH = -1 };

// ---- memory

typedef enum {
	CLASS_PARAMETERS, CLASS_GRADIENTS, CLASS_OPTIMIZER, CLASS_ACTIVATIONS, CLASS_COMMUNICATION, CLASS_SCRATCH,
	CLASS_WORKSPACE, CLASS_EXCHANGE, CLASSES
} Class;

extern const char *const class_names[CLASSES]; // (memory.c)

// Bytes of one device that hold a tensor. Micro-batch k uses slot k % slots, at offset + (k % slots) * stride.
typedef struct {
	const char *name;       // identifier in emitted code
	const Tensor *tensor;   // NULL: the workspace
	Class class;
	size_t bytes;           // of one slot
	int slots;
	bool whole;             // the slots are all micro-batches of a step, one behind the other without gaps
	size_t offset, stride;  // from the arena's start
	int function;           // scratch: the function it lives in, else -1
	int first, last;        // scratch: its first and last step there
	int born, dies;         // its first step, and the one behind which others may lie there, counted through the role's functions: communication
	                        // may still be under way after `last`
	bool side;              // the side stream uses it
	bool alone;             // emitted code uses it outside of loops
} Buffer;

// ---- steps

typedef enum { STREAM_COMPUTE, STREAM_SIDE, STREAM_DP, STREAM_TP, STREAM_PP, STREAMS } Stream;
typedef enum { WHEN_ALWAYS, WHEN_FIRST, WHEN_LAST, WHEN_EVALUATING } When; // of a step's micro-batches

typedef enum {
	STEP_ELEMENTWISE,       // nodes: a chain that one generated kernel computes
	STEP_GEMM,              // nodes[0] the matmul, then what its epilogue does
	STEP_CONV,              // nodes[0]: a convolution or one of its gradients, then a bias
	STEP_ATTENTION,         // nodes[0]: attention or its gradient
	STEP_CHUNKS,            // nodes[0]: a head with its loss, chunk by chunk of its rows
	STEP_KERNEL,            // a template; element-wise nodes in front of its node, or behind it, fill slots of it
	STEP_COPY,              // nodes: between host and device; small ones in one kernel, or a large one
	STEP_COLLECTIVE,        // nodes: all-reduces of one bucket, or one conversion
	STEP_TRANSFER           // transfers: sends and receives of one NCCL group
} StepKind;

// One message between two stages.
typedef struct {
	Tensor *tensor;
	int from, to;           // stages
	enum { TRANSFER_FORWARD, TRANSFER_BACKWARD, TRANSFER_PROLOGUE, TRANSFER_EPILOGUE } kind;
	bool evaluation;
} Transfer;

// A send or receive of this role inside a step; micro-batch is the first or second argument of the function.
typedef struct {
	const Transfer *transfer;
	bool send;
	int argument;           // 0 or 1
} Message;

// Some rows of a tensor, along its outermost dim: those that one of `ranks` devices over tp has computed, the one `rank` ranks behind this
// one; of these, one of so many equal pieces. 0 ranks: all rows.
typedef struct {
	int ranks, rank, pieces, piece;
} Rows;

// What a step reads or writes: the slot of the function's micro-batch, or every slot outside of the micro-batch phases.
typedef struct {
	Tensor *tensor;         // a root
	Rows rows;              // that it uses
	bool write;             // a write may read too
	int argument;           // which of the function's micro-batches: 0 or 1
	int buffer;             // index into Role.buffers, from plan_memory on
} Access;

// An event with `slots` instances: micro-batch k has instance k % slots. A wait sees its latest record.
typedef struct {
	const char *name;       // identifier in emitted code
	int slots;
	int first;              // index of its first instance among the role's events
} Event;

// An event recorded behind a step, for one of the function's micro-batches.
typedef struct {
	int event;              // index into Role.events
	int argument;           // 0 or 1
} Record;

// An event waited for before a step.
typedef struct {
	int event, argument;    // as of a record
	int alone;              // index of the step that waits, of those of equal layers; -1: each does
} Wait;

typedef struct {
	StepKind kind;
	const char *name;       // the model's node
	LIST(Node *) nodes;
	int block;              // that it runs in: of its nodes, or of what runs before it; without nodes: none
	LIST(Message) messages;
	LIST(Access) accesses;
	LIST(Wait) waits;
	LIST(Record) records;
	Stream stream;
	When when;
	bool accumulate;        // the output is summed over micro-batches in place
	int parts, part;        // STEP_GEMM of what tp gathers: only the rows of one of so many devices, `part` ranks behind this one; 0 parts: all
	int pieces, piece;      // of these rows, one of so many equal pieces; 0 pieces: all
	int call;               // STEP_GEMM, STEP_CONV, STEP_ATTENTION: index into Role.gemms, Role.convs, Role.attentions; STEP_CHUNKS: the first of three
	int same_as;            // the step of this function whose code it shares: itself, or its like in a loop's first layer
} Step;

// Layers that do the same on other buffers: `count` times `steps` steps from `first` on. Layers are numbered from `base` on, in the
// order of the model: a descending loop runs the last one first.
typedef struct {
	const char *name;       // of the blocks, without their number
	int first, steps, count, base;
	bool descending;
	unsigned layer_step;    // what Attributes.layer rises by from one layer that runs to the next
	int *family_of;         // by buffer of the layer that runs first: index into Role.families, -1: all layers use this buffer
} Loop;

// Buffers that stand in the same place of equal layers; all have the same bytes.
typedef struct {
	const char *name;       // identifier in emitted code
	int *buffers;           // by layer, from number `base` on: index into Role.buffers
	int base, count, slots; // base: -1 until a loop that goes through it has its own; slots: the most of any
	bool common;            // all lie at one address: scratch of one layer after another
	bool descending;        // the last layer runs first
	int neighbour, shift;   // index of the family that says where these lie: they are, but for one at an end, its members of the layer whose number is
	                        // `shift` more, 1 or -1 (families.c); -1: none
} Family;

typedef enum {
	FUNCTION_LOADED,        // behind the initialisation or loading of weights; no schedule has it
	FUNCTION_BEGIN, FUNCTION_PROLOGUE, FUNCTION_FORWARD, FUNCTION_BACKWARD, FUNCTION_RESULTS, FUNCTION_UPDATE,
	FUNCTION_END,           // up to here one of each, at these indices
	FUNCTION_TRANSFER
} FunctionKind;

typedef struct {
	FunctionKind kind;
	const char *name;       // identifier in emitted code
	LIST(Step) steps;
	LIST(Loop) loops;       // in order, apart from each other
} Function;

// ---- schedules

typedef struct {
	int function;           // of the role
	int first, second;      // micro-batches, or EVERY_MICROBATCH
	const char *name;       // "0F2", "1SEND_F2+1RECV_B0"
} Action;

typedef LIST(Action) Actions;

// ---- roles

typedef struct {
	const char *name;       // the node
	const char *constant;   // its name in the enum of emitted code
	int m, n, k;
	Transpose transpose;
	Type type, out;         // of the operands, of the result
	bool bias;
	const Node *activation; // what the epilogue computes behind the product and its bias; NULL: nothing
	const Tensor *kept;     // what the activation reads, where others read it too; or what the gradient of one reads
	int alignment;          // bytes that all operands' addresses are multiples of, at most 16
} Gemm;

typedef struct {
	const char *name, *constant; // as of a Gemm
	const Node *node;
	int x[4], w[4], y[4];   // [N,H,W,C], [O,kh,kw,C/groups], [N,H,W,O] on one device
	int groups;             // on one device
	bool bias;
	int alignment;
	int slice;              // ConvSlice.samples
} Conv;

typedef struct {
	const char *name, *constant; // as of a Gemm
	bool gradient;
	int tokens, batch, groups, queries, size; // on one device
	int slice;              // AttentionSlice.units
	bool any_order;
	double dropout;
	int heads;              // of all devices
	int alignment;
} Attention;

// Attention takes so many pairs of a sample and a group at once. (attention.c)
typedef struct {
	int units;
	bool any_order;         // in bf16: engines are chosen by time, and the gradient of queries is summed in no fixed order
	size_t bytes;           // of workspace, beside what any library call may use
} AttentionSlice;

// f32 convolutions that a GPU computes on tensor cores take so many samples at once. (convolution.c)
typedef struct {
	int samples;            // a divisor of those on one device; 0: not this convolution
	size_t bytes;           // of workspace, beside what any library call may use
	double seconds;
} ConvSlice;

typedef struct {
	int stage;
	LIST(Node *) nodes[4];  // by phase, in order
	LIST(Buffer) buffers;
	NameTable identifiers;  // of buffers
	int *buffer_of;         // by tensor id: index into buffers, or -1 (aliases share their root's)
	LIST(Family) families;
	const Loop *inside;     // while emitting: the loop whose layer is written, the step whose call is
	const Step *writing;
	LIST(Function) functions;
	LIST(Event) events;
	int event_instances;
	LIST(Gemm) gemms;
	LIST(Conv) convs;
	LIST(Attention) attentions;
	Actions train, evaluate, infer;
	bool uses[STREAMS];
	int saved_slots;        // micro-batches in flight between forward and backward
	size_t bytes[CLASSES], arena, workspace_offset, workspace; // of one stream; the side stream's lies behind that of compute
	struct { size_t offset, bytes; } exchange[ALL_AXES]; // by axis: of what copy engines carry
	size_t shared;          // of them bytes that gradients and activations share, which the arena has once; 0: none
	bool holds_metrics;
} Role;

typedef enum { SCHEDULE_GPIPE, SCHEDULE_1F1B } ScheduleKind;

// One compute action of the simulated timeline, in seconds from the step's start.
typedef struct {
	int stage, microbatch;
	bool backward;
	double start, finish;
} TimelineEntry;

// What devices can do; see device.c.
typedef struct {
	const char *name;
	double flops[3];        // a second, dense: f32 (f64 on cpu), tf32, bf16
	double memory;          // bytes a second
	double link;            // bytes a second between two devices, each way
	double latency;         // seconds of a message
	double launch;          // seconds of a kernel beside its arithmetic and traffic: from the end of the one before it until it is under way
	size_t capacity;        // bytes of memory
	size_t overhead;        // bytes that the CUDA context and libraries take (measured)
	double copied;          // bytes from which copy engines carry out a collective
	int multiprocessors;    // that tiles of matrix products are shared out to; 0: not told
} Device;

typedef struct {
	Arena *arena;
	Graph *graph;
	const Location *location; // of mp.program, for what does not fit the mesh
	int mesh[ALL_AXES];
	int stages;
	int *stage_of;          // by block
	bool cut_by_cost;       // the spec's own cuts did not give the wanted number of stages
	ScheduleKind schedule;
	enum { RECOMPUTE_NONE, RECOMPUTE_SELECTIVE, RECOMPUTE_FULL } recompute;
	double kept_bytes[RECOMPUTE_FULL + 1]; // of a micro-batch, from forward to backward pass on all stages of a device each, by kind of recomputation
	bool tf32;
	bool deterministic;     // the same bits in every run
	bool zero;              // replicas store parameters and the optimizer's state in parts
	bool rounded;           // gradients of matrices are stored in the compute type where one product makes them
	const Device *device;
	LIST(Transfer *) transfers;
	Role *roles;            // one for each stage
	LIST(TimelineEntry) timeline;
	double step_time, bubble;  // seconds; share of the devices' time in which they wait
} Plan;

// ---- helpers (local.c)

// Extents of t on one device in one micro-batch (padded to equal shards). Tensors of the prologue and epilogue that
// belong to samples hold every micro-batch and have as many slots.
long local_extent(const Plan *plan, const Tensor *t, int dim);
long local_product(const Plan *plan, const Tensor *t, int from, int to); // of the extents of dims [from, to)
long local_elements(const Plan *plan, const Tensor *t);
size_t local_bytes(const Plan *plan, const Tensor *t);
void product_extents(const Plan *plan, const Node *matmul, int *m, int *n, int *k); // result [m,n], k is summed
bool is_padded(const Plan *plan, const Tensor *t, int *dim, Axis *axis);   // a sharded dim that does not divide
Tensor *root_of(Tensor *t);             // through aliases, to the tensor whose bytes it is
int stage_of(const Plan *plan, const Node *node);
bool rows_meet(const Rows *a, const Rows *b);   // of one tensor: whether some are the same (rows.c)
bool same_rows(const Rows *a, const Rows *b);
int parts_of(const Rows *rows);         // how many such parts the tensor has
int steps_for_all(const Step *step);    // how many steps like this one do what one does for all rows
const Rows *rows_used(const Step *step, const Tensor *t); // that a step uses of t; NULL: none
const Tensor *part_inside(const Tensor *t); // the tensor that lies inside of t's root and that t is another name for; NULL: none
Node *kernel_of(const Step *step);      // of a STEP_KERNEL: the node that has a template
bool same_layout(const Tensor *a, const Tensor *b); // extents and placements
bool is_working_copy(const Node *node); // of a parameter, in the compute type
bool gathers_parameter(const Node *node); // that replicas store in parts, or unpacks what was gathered
Node *working_copy(const Role *role, const Tensor *parameter); // NULL: the role has none
int *count_uses(const Plan *plan);      // by tensor id: how many operands of nodes it is
void replace_nodes(Plan *plan, Node *const *nodes, int count); // of the graph, by a new list, and numbers them
size_t aligned(size_t bytes);           // rounded up to what buffers begin at multiples of (memory.c)
int find_buffer(const Plan *plan, const Role *role, const Tensor *t);
Tensor *copied_tensor(const Node *copy); // of a copy between host and device: what it copies
bool is_small_copy(const Plan *plan, const Node *copy); // a kernel makes it, and others of its kind beside it
ConvSlice conv_slice(const Plan *plan, const Node *node); // of OP_CONV2D or one of its gradients (convolution.c)
AttentionSlice attention_slice(const Plan *plan, const Node *node); // of OP_ATTENTION or its gradient (attention.c)
bool has_own_gradient(const Node *node); // whether mp_attention_sm90_takes() it, on a GPU that has the kernel (attention.c)

// What the optimizer goes through is a table of i32 with a row for each parameter that the stage updates; its columns are those of
// runtime/mp_table.h. Tensors are taken in chunks of so many elements, counted from the first. (norm.c)
enum { TABLE_CHUNK = 65536, TABLE_UNIT = 256, TABLE_COLUMNS = 13 };
long table_chunks(const Plan *plan, const Tensor *gradient);
bool counts_apart(const Plan *plan, Axis axis); // whether the devices of an axis add up squares of what they have of gradients

// ---- passes, in order

// Needs: a differentiated graph, mesh sizes. Gives: with --gradients bf16, gradients in the compute type. (rounded.c)
void round_gradients(Plan *plan);

// Needs: a differentiated graph, mesh sizes. Gives: with --zero 1, placements of parameters and states over dp. (zero.c)
void store_in_parts(Plan *plan);

// Needs: a differentiated graph, mesh sizes. Gives: a placement for every tensor, conversion nodes where producers and
// consumers differ. Ends with an error on the user's line where no placement works. (place.c)
void place_tensors(Plan *plan);

// Needs: placements. Gives: products that are scattered over tp in parts, each sent while the next is computed. (decompose.c)
void decompose_products(Plan *plan);

// Needs: placements. Gives: stage of each block; refuses a pp that the blocks cannot give. (stages.c)
void cut_stages(Plan *plan);

// Needs: stages. Gives: gradients of tables that look-ups are added onto in place. (tied.c)
void join_tied_gradients(Plan *plan);

// Needs: placements. Gives: how much each kind of recomputation keeps; with --recompute, copies of forward nodes in the backward pass, which reads their results. (recompute.c)
void recompute_activations(Plan *plan);

// Needs: stages. Gives: every stage's table of what it updates, behind all other nodes; where the optimizer asks for the norm of
// all gradients, the nodes that compute it on every stage, and the updates read how much to scale their gradients. (norm.c)
void measure_gradients(Plan *plan);

// Needs: stages. Gives: roles with their nodes, transfers between stages. (roles.c)
void make_roles(Plan *plan);

// Needs: roles. Gives: which parameters lie in halves, one of which is their working copy. (halves.c)
void store_in_halves(Plan *plan);

// Needs: roles. Gives: functions with steps, element-wise chains and GEMM epilogues fused, gradient buckets. (fuse.c)
void fuse_steps(Plan *plan);

// Needs: steps with what they read and write. Gives: the side stream of roles with short steps. (streams.c)
void choose_streams(Plan *plan);

// Needs: steps with costs, transfers. Gives: action lists of every role with communication, timeline. (schedule.c)
void make_schedules(Plan *plan);

// Needs: action lists. Gives: buffers with offsets, bytes by class. (memory.c)
void plan_memory(Plan *plan);

// Needs: buffers. Gives: loops of equal layers, families of their buffers. (repeat.c)
void find_repeats(Plan *plan);

// Whether the family's member of a layer is the other one's of the layer whose number is `shift` more. (families.c)
bool told_by(const Family *family, const Family *other, int layer, int shift);

// Ends with EXIT_DOES_NOT_FIT when a device has less memory than the plan takes. (memory.c)
void check_capacity(const Plan *plan);

// Needs: streams, buffers, action lists. Gives: events, waits and records: every conflicting pair of steps is
// ordered, and no wait can be removed. (synchronise.c)
void synchronise(Plan *plan);

// ---- reports (explain.c, dump.c)
void explain_plan(const Plan *plan, Text *out);
void explain_json(const Plan *plan, Text *out);
void dump_plan(const Plan *plan, Text *out);

const Device *find_device(Arena *arena, const char *name); // exits with EXIT_USAGE and the known names

#endif
