// ops.h: what a row of the op table holds. The table is ops.def; rows are read through op_table.
#ifndef OPS_H
#define OPS_H

#include "graph.h"

// How an op becomes steps of the emitted program.
typedef enum {
	LOWER_NOTHING,          // storage only
	LOWER_ALIAS,            // its output is its input's bytes
	LOWER_ELEMENTWISE,      // joins a generated kernel
	LOWER_GEMM,
	LOWER_CONV,
	LOWER_ATTENTION,
	LOWER_CHUNKS,           // a loop over chunks of rows, of products and kernels
	LOWER_KERNEL,           // a template of its own
	LOWER_COPY,             // between host and device
	LOWER_COLLECTIVE
} Lowering;

// One way to place an op on one axis: with inputs so, the outputs are so.
typedef struct {
	Placement in[MAX_INPUTS], out[MAX_OUTPUTS];
	// SAMPLES: whole groups of them, each a micro-batch of a replica; MICRO: a sum that elsewhere is better reduced before the
	// op; DP: replicas have their own samples, tp would have to gather them; TP: channels, where replicas have samples.
	enum { ON_ANY_AXIS, ON_SAMPLES, ON_MICRO, ON_DP, ON_TP } on;
} Rule;

enum { MAX_RULES = 2 * MAX_DIMS + 6 };

typedef struct {
	Rule at[MAX_RULES];
	int count;
} Rules;

// Appends backward nodes for `node`, given the cotangents of its outputs (NULL: none), and sets din[i] for the
// inputs with wanted[i]. Contribution nodes are named names[i].
typedef struct {
	Graph *graph;
	Node *node;
	Tensor *dout[MAX_OUTPUTS];
	bool wanted[MAX_INPUTS];
	const char *names[MAX_INPUTS];
	Tensor *din[MAX_INPUTS];
} Gradient;

typedef struct {
	const char *name;
	void (*shape)(Graph *graph, Node *node);
	void (*gradient)(Gradient *g);
	void (*placement)(const Node *node, Rules *rules);
	double (*flops)(const Node *node);      // of the whole tensor
	Lowering lowering;
	const char *expression;                 // device function or template
	bool images;                            // operands and results of four dims lie channels-last
} OpInfo;

extern const OpInfo op_table[OPS];

// Makes the next output of node.
Tensor *add_output(Graph *graph, Node *node, Type type, int dims, const long *shape);
// The same, named NODE.WHAT.
Tensor *add_named_output(Graph *graph, Node *node, const char *what, Type type, int dims, const long *shape);

// Of a matrix product: how many dims of the first operand are rows (in TN: of both). (shapes.c)
int matmul_rows(const Node *node);

// The parameter that t is, or is the working copy of; NULL: neither. (shapes.c)
Parameter *parameter_of(const Tensor *t);

// Whether a node writes operand i where it is stored, as an update does.
bool writes_operand(const Node *node, int i);

// Whether its result is its last operand, onto which it has added something in place.
bool adds_onto(const Node *node);

// Whether the result of a node may take the memory of the first one.
bool may_overwrite(const Node *node);

// Whether the template of a node's kernel has slots for element-wise nodes that make its first operand, or that go on from its first result.
bool joins_in_front(const Node *node);
bool joins_behind(const Node *node);
// Whether a norm's gradient, which joins_behind, has dx_sums as its last output: those of its result as it is stored, by chunks of rows.
bool sums_result(const Node *node);

// In how many chunks OP_COLUMN_SUMS adds up `rows` rows of x, over its first `dims` dims; 0: OP_SUM does it. (gradients.c)
long column_sums_chunks(const Tensor *x, int dims, long rows);
long partial_sums_chunks(const Tensor *partials); // the same of make_partial_sums; at least 1

// The rules of the table's placement column.
#define PLACEMENTS(X) X(given) X(replicated) X(matmul) X(reshape) X(sum) X(column_sums) X(expand) X(rows) X(sum_all) X(linear) \
	X(broadcast) X(divide) X(scale) X(elementwise) X(gradient) X(rows_gradient) X(update) X(sink) X(dropout) X(permute) \
	X(conv2d) X(conv2d_input_grad) X(conv2d_weight_grad) X(pool) X(pool_gradient) X(channel_partials) X(channel_statistics) \
	X(merge_statistics) X(normalize) X(group_sum) X(running_statistics) X(attention) X(attention_grad) \
	X(norm) X(norm_grad) X(rope) X(swiglu) X(swiglu_grad) \
	X(transpose) X(embedding) X(embedding_grad) X(cross_entropy_grad) X(cross_entropy_and_grad) \
	X(linear_cross_entropy) X(classes) X(of_classes)
#define SHAPES(X) X(given) X(scalar) X(cast) X(matmul) X(reshape) X(sum) X(column_sums) X(expand) X(softmax) X(cross_entropy) \
	X(cross_entropy_grad) X(correct) X(count) X(broadcast) X(same) X(update) X(sink) \
	X(dropout) X(told) X(conv2d) X(pool) X(adaptive_pool) X(channel_partials) X(channel_statistics) X(merge_statistics) \
	X(normalize) X(normalize_sums) X(group_sum) X(attention) X(attention_grad) X(layer_norm) X(rms_norm) X(norm_grad) X(rope) X(swiglu) \
	X(transpose) X(embedding) X(embedding_grad) X(linear_cross_entropy) X(classes)
#define GRADIENTS(X) X(cast) X(matmul) X(reshape) X(sum) X(expand) X(softmax) X(cross_entropy) X(add) X(sub) X(mul) X(div) \
	X(scale) X(relu) X(gelu_erf) X(gelu_tanh) X(silu) X(tanh) X(sigmoid) X(dropout) X(permute) X(conv2d) X(max_pool) X(avg_pool) \
	X(adaptive_pool) X(normalize) X(attention) X(layer_norm) X(rms_norm) X(rope) X(swiglu) \
	X(transpose) X(embedding) X(linear_cross_entropy)
#define COSTS(X) X(matmul) X(linear_cross_entropy) X(conv2d) X(attention) X(elements) X(rows) X(update)

#define DECLARE(name) void placement_##name(const Node *node, Rules *rules);
PLACEMENTS(DECLARE)
#undef DECLARE
#define DECLARE(name) void shape_##name(Graph *graph, Node *node);
SHAPES(DECLARE)
#undef DECLARE
#define DECLARE(name) void gradient_##name(Gradient *g);
GRADIENTS(DECLARE)
#undef DECLARE
#define DECLARE(name) double cost_##name(const Node *node);
COSTS(DECLARE)
#undef DECLARE

#endif
