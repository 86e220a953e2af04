// graph.h: the logical graph of a training step: global shapes, no devices.
//
// Shapes are those of the whole batch. Micro-batching is a mesh axis in time: a tensor that belongs to samples is
// Shard(0) on it, a parameter is Replicate, and a sum over the batch is Partial until every micro-batch has run.
// Nodes live in three phases: the prologue and the epilogue run once a step, the micro-batch phase once for each
// micro-batch. gen/spec makes the forward nodes, differentiate() the rest; gen/plan places them on devices.
#ifndef GRAPH_H
#define GRAPH_H

#include "../common.h"

enum { MAX_DIMS = 6, MAX_INPUTS = 8, MAX_OUTPUTS = 6 };

typedef enum { TYPE_F32, TYPE_F64, TYPE_I32, TYPE_BF16 } Type;

// Mesh axes that placements speak of. AXIS_MICRO is the axis in time.
typedef enum { AXIS_MICRO, AXIS_DP, AXIS_TP, PLACED_AXES, AXIS_PP = PLACED_AXES, ALL_AXES } Axis;

// How a tensor lies on one axis (the terms of DTensor and GSPMD).
typedef struct {
	enum { REPLICATE, SHARD, PARTIAL } kind;
	int dim;                // SHARD: the sharded dim
} Placement;

typedef enum {
#define OP(name, ...) OP_##name,
#include "ops.def"
#undef OP
	OPS
} Op;

// Outputs of OP_LINEAR_CROSS_ENTROPY; the last two are there where tp shares out the classes.
enum { CHUNKED_LOSSES, CHUNKED_X_GRAD, CHUNKED_WEIGHT_GRAD, CHUNKED_LOGITS, CHUNKED_CLASS_SUMS, CHUNKED_STATISTICS };

typedef enum { PHASE_PROLOGUE, PHASE_FORWARD, PHASE_BACKWARD, PHASE_EPILOGUE } Phase;

typedef struct Node Node;
typedef struct Tensor Tensor;
typedef struct Graph Graph;

struct Tensor {
	int id;
	const char *name;       // from the spec's path: "fc1.weight", "fc1.relu", "fc1.relu.grad"; unique
	Type type;
	int dims;               // 0: a scalar
	long shape[MAX_DIMS];   // global, outermost first
	Node *producer;
	Tensor *primal;         // of a final cotangent: the tensor that it is the gradient of
	Tensor *parameter;      // of a part of a parameter's gradient: the parameter
	bool pinned[PLACED_AXES]; // place[] was fixed by the spec (shard = …, mp.constrain) or by what the tensor is
	Placement place[PLACED_AXES]; // filled by place_tensors, pinned ones before
	bool channels_last;     // 4 dims that lie as [N,H,W,C] where the spec and files have [N,C,H,W]
	bool in_halves;         // an f32 whose upper half is its working copy: its own bytes are the lower one (gen/plan/halves.c)
	Tensor *inside;         // it is this device's rows of that tensor, which tp gathers from it; NULL: it has bytes of its own (in_place.c)
	Tensor *replaced_by;    // while layout_images runs: what its readers shall read
};

// Matrix products. In the place of one dim of a parameter may stand several, which count as one: those of a layer's heads,
// say, so that shards are whole heads. All dims of the smaller operand but the last are such:
//   NN   [rows…,k…] [k…,n] -> [rows…,n]      NT   [rows…,k] [n…,k] -> [rows…,n…]      TN   [rows…,m…] [rows…,n] -> [m…,n]
typedef enum { MATMUL_NN, MATMUL_NT, MATMUL_TN } Transpose;

typedef struct Init {
	enum { INIT_CONSTANT, INIT_UNIFORM, INIT_NORMAL } kind;
	double a, b;            // CONSTANT: a; UNIFORM: [a, b); NORMAL: mean a, standard deviation b
} Init;

// Windows of a convolution or pooling; [0] along the height, [1] along the width.
typedef struct {
	int kernel[2], stride[2], padding[2], dilation[2], groups;
	bool counts_padding;    // an average divides by the whole window, padding included
} Window;

// A part of a parameter as it lies in files: a tensor of its own, its dims in another order and several written as one.
typedef struct {
	const char *name, *tied;        // tied: another name that files may have for it; NULL: none
	long from[MAX_DIMS], extent[MAX_DIMS]; // the part, in the spec's dims
	int order[MAX_DIMS];            // the spec's dims from the outermost in files on
	int dims;                       // of the tensor in files
	long shape[MAX_DIMS];
} Piece;

// Rotary position embeddings: the base of the frequencies and, with a factor other than 1, how they are stretched for contexts
// longer than the original one (Llama 3.1).
typedef struct {
	double theta, factor, low, high, original;
	bool back;              // turns the other way
} Rotary;

// A tensor of the model that is saved: trained, or a buffer that an update of its own changes. `tensor` is produced by an OP_PARAMETER node.
typedef struct {
	const char *name;
	Tensor *tensor;
	Init init;
	bool trained;
	bool decay;             // weight decay applies
	int block;              // of its first use: the owner
	bool in_parts;          // each replica stores one (gen/plan/zero.c)
	Tensor *working;        // its copy in the compute type, which the update makes anew; NULL: none is used
	Tensor *gradient;       // epilogue: the sum over its uses, reduced
	LIST(Piece) pieces;     // in files; none: the whole, under its name
} Parameter;

// An input of the spec, or what the runtime says of each step. `tensor` is produced by an OP_INPUT node in the prologue.
typedef struct {
	const char *name;
	Tensor *tensor;
	enum { INPUT_DATA, INPUT_LEARNING_RATE, INPUT_RANDOM_KEY, INPUT_STEP } kind;
	long limit;             // labels: classes of the tensor they are compared with; 0: not a label
	long vocabulary;        // labels that are ids of token data: their limit, whatever they are compared with
} Input;

// Optimizer state: one tensor beside a parameter ("fc1.weight.momentum"), produced by an OP_STATE node.
typedef struct {
	const char *name;
	Tensor *tensor;
	Parameter *parameter;
} State;

// Something the program hands to its user: a metric (scalar) or an output of inference.
typedef struct {
	enum { RESULT_METRIC, RESULT_OUTPUT } kind;
	const char *name;       // "loss", "accuracy"; outputs: the name in the spec
	Tensor *tensor;
	Tensor *count;          // metric: number of valid labels that the mean divides by, or NULL
	bool evaluation;        // needed only while evaluating
	bool update;            // known only behind the gradients: evaluation has none
} Result;

// What batch normalisation is given; all tensors but x have an element for each channel, batches_tracked is one i32.
typedef struct {
	Tensor *x, *weight, *bias, *running_mean, *running_var, *batches_tracked;
	double momentum, epsilon;
	bool synchronised;      // statistics over all replicas
} BatchNorm;

// Running statistics and what the epilogue updates them with: [G,C] for the G groups of a step.
typedef struct {
	Tensor *running_mean, *running_var, *batches_tracked, *mean, *variance;
	double momentum;
	const Node *node;       // that made mean and variance
} RunningStatistics;

typedef struct Attributes {
	double scale;           // OP_SCALE, OP_SUM (mean: 1/n), OP_CONSTANT: the value; OP_RSTD: epsilon; OP_NORMALIZE_GRAD: 1/rows;
	                        // OP_DROPOUT, OP_ATTENTION and its gradient: the rate of dropout; OP_GRADIENT_NORM: the norm that gradients are clipped to, 0: none
	Transpose transpose;    // OP_MATMUL
	int from, to;           // OP_SUM, OP_EXPAND: dims [from, to) are summed away or inserted
	Axis axis;              // collectives and slices
	int dim;                // collectives and slices: the sharded dim
	int dims;               // OP_RESHAPE, shape_told: the new shape; OP_EXPAND: the extents of the inserted dims
	long shape[MAX_DIMS];
	bool channels_last;     // OP_PERMUTE: to channels-last, or back
	double momentum, decay; // OP_SGD; OP_RUNNING_STATISTICS: the momentum; OP_ADAMW: the decay
	double betas[2];        // OP_ADAMW; its epsilon is below
	Window window;          // convolutions, pooling; adaptive pooling: kernel is the output's size
	// Batch normalisation: groups of `rows` pixels that share statistics; `parts` of the batch (a micro-batch of a
	// replica), each reduced in `chunks`.
	long groups, rows, parts, chunks;
	int part;               // OP_MATMUL with parts: only the rows of the device `part` ranks behind this one; OP_SHIFT: sent there
	double epsilon;         // also of OP_LAYER_NORM, OP_RMS_NORM; chunks: of their gradients, and of OP_LINEAR_CROSS_ENTROPY
	bool synchronised;
	Rotary rotary;          // OP_ROPE
	long classes;           // of cross-entropy and accuracy: columns from here on are padding; 0: none is. parts: shards of the classes
	unsigned layer;         // of dropout: tells layers apart
	Tensor *converts;       // conversions: the tensor that this one is in another placement
	bool typed;             // OP_MATMUL, OP_EXPAND, OP_CAST: the result is of this type
	Type type;
	bool in_place;          // the output is the bytes of the first operand
	Parameter *parameter;
	Input *input;
	State *state;
	Result *result;
	Node *count;            // OP_METRIC: the metric that holds its count, or NULL
} Attributes;

// Whether two nodes of one op compute the same of their operands. (graph.c)
bool same_attributes(const Attributes *a, const Attributes *b);

struct Node {
	int id;
	Op op;
	const char *name;       // path of the spec; outputs are named after it
	const Location *location;
	Tensor **in;            // room for MAX_INPUTS at least; an op that is given() its placement may have more
	int ins;
	Tensor *out[MAX_OUTPUTS];
	int outs;
	Attributes attributes;
	Phase phase;
	int block;              // index into Graph.blocks
	bool evaluation;        // runs only while evaluating
	bool accumulate;        // the output sums over micro-batches in place: the first writes, the others add
	bool again;             // it makes in the backward pass what the forward pass did not keep
};

// A stretch of the forward graph that a stage boundary does not split. A block begins at each mp.block, at each
// mp.cut, and, outside of mp.block, at each layer that owns parameters.
typedef struct {
	const char *name;
	const Location *location;
	bool cut;               // mp.cut stands before it: a preferred stage boundary
	bool unit;              // an mp.block: a unit of repetition
} Block;

typedef struct {
	enum { OPTIMIZER_SGD, OPTIMIZER_ADAMW } kind;
	double rate, momentum, weight_decay;
	double betas[2], epsilon; // AdamW
	enum { RATE_CONSTANT, RATE_LINEAR, RATE_COSINE } schedule;
	int warmup;             // steps
	double least_rate;      // where the schedule ends
	double clip;            // the largest norm of all gradients together; 0: whatever it is
	const Location *location;
} Optimizer;

struct Graph {
	Arena *arena;
	NameTable names;        // of nodes and tensors, so that each is unique
	Type real;              // type of activations
	Type master;            // of parameters, their gradients, statistics and losses: f32 where real is bf16, else real
	bool training;
	bool scores;            // inference that gives the loss too
	LIST(Node *) nodes;     // in execution order within each phase
	LIST(Tensor *) tensors;
	LIST(Block) blocks;
	LIST(Parameter *) parameters; // in order of creation
	LIST(Input *) inputs;
	LIST(State *) states;
	LIST(Result *) results;
	LIST(RunningStatistics) running;
	Optimizer optimizer;
	long batch;
	int microbatches, replicas; // of the mesh: what batch statistics are taken over
};

// ---- building (graph.c)

Graph *graph_new(Arena *arena, Type real, long batch);

// A new node at the end of the graph: checks operands and makes its outputs by the op's shape rule. name is the
// node's path; it is made unique. On a mistake of the user (shapes that do not fit) ends through fail_at.
// The block is the last one of graph->blocks. Attributes may be NULL.
Node *add_node(Graph *graph, Op op, const char *name, const Location *location, Phase phase,
               Tensor *const *in, int ins, const Attributes *attributes);

// Leaves. shape: dims extents. placements may be pinned on the result afterwards.
Parameter *add_parameter(Graph *graph, const char *name, const Location *location, int dims, const long *shape, Init init);
Parameter *add_buffer(Graph *graph, const char *name, const Location *location, Type type, int dims, const long *shape, Init init);
Input *add_input(Graph *graph, const char *name, const Location *location, Type type, int dims, const long *shape);

// Composite operations that the spec room offers as one: they make several nodes. loss/accuracy divide by the
// number of labels >= 0 of the whole batch, counted in the prologue; *count receives that scalar. Logits from column `classes`
// on are padding, which neither wins nor learns; 0: there is none.
Tensor *add_cross_entropy(Graph *graph, const char *name, const Location *location, Tensor *logits, Tensor *label, long classes, Tensor **count);
// The same of the logits x weight^T, made for 1/chunks of the rows at a time while training.
Tensor *add_linear_cross_entropy(Graph *graph, const char *name, const Location *location, Tensor *const in[3], long classes, long chunks, Tensor **count);
Tensor *add_accuracy(Graph *graph, const char *name, const Location *location, Tensor *logits, Tensor *label, long classes, Tensor **count);

// y = (x - mean) / sqrt(variance + epsilon) * weight + bias for images x, with the statistics of each group, or, where the
// graph does not train, the running ones. (batch_norm.c)
Tensor *add_batch_norm(Graph *graph, const char *name, const Location *location, const BatchNorm *norm);

// x with elements dropped at `rate`, 0 <= rate < 1, while training. (dropout.c)
Tensor *add_dropout(Graph *graph, const char *name, const Location *location, Tensor *x, double rate);

// Causal attention of packed heads. While training, weights are dropped at `rate`, 0 <= rate < 1. (attention.c)
Tensor *add_attention(Graph *graph, const char *name, const Location *location, Tensor *qkv, double rate);

// How many windows fit along one side; less than 1: none. (convolution.c)
long window_places(const Window *window, int i, long extent);

// A copy of a node: the same operands, new outputs that lie as the original's, the name with `what` behind it. It belongs to the
// caller's list.
Node *copy_node(Graph *graph, const Node *node, const char *what);

// Another operand behind those that the node has.
void add_operand(Node *node, Tensor *t);

// Whether the node is a step of the optimizer: it changes operand 0, a parameter, by operand 1, its gradient.
bool is_update(const Node *node);

const char *op_name(Op op);
const char *type_name(Type type);                       // "f32"
const char *shape_text(Arena *arena, const Tensor *t);  // "f32[64,784]"
long tensor_elements(const Tensor *t);
size_t type_size(Type type);

// ---- passes

// Needs: forward nodes as the spec made them. Gives: images and filters channels-last wherever ops of images read
// them, transpositions where others do. (layout.c)
void layout_images(Graph *graph);

// Needs: forward nodes and results. Gives: backward nodes, gradient sums and the optimizer's updates
// (training), or only what the outputs need (inference). (differentiate.c)
void differentiate(Graph *graph);

// Needs: any graph. Gives: the same without nodes that nothing needs. (simplify.c)
void remove_dead_nodes(Graph *graph);

// Needs: a differentiated graph. Gives: the same with expansions in the block that reads them: what travels between
// stages is what they expand. (simplify.c)
void sink_expansions(Graph *graph);

// The graph as text, a line a node. (dump.c)
void dump_graph(const Graph *graph, Text *out);

#endif
