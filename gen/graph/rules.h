// rules.h: what the files with rules of the op table share.
#ifndef RULES_H
#define RULES_H

#include "ops.h"

// ---- shapes (shapes.c): operands in messages, and checks that end with the user's line.
const char *tensor_text(Graph *graph, const Tensor *t);         // "fc1.relu f32[64,500]"
// Makes operand i one of the compute type: a parameter's working copy, or a cast. want_float: or leaves it in the master type.
void want_real(Graph *graph, Node *node, int i);
void want_reals(Graph *graph, Node *node);
void want_float(Graph *graph, Node *node, int i);
void want_master(Graph *graph, const Node *node, int i);         // a parameter or statistic, taken as it is stored

// What t was before dims were exchanged or reshaped. (embedding.c)
Tensor *origin_of(Tensor *t);

// Of nodes that draw from the step's random numbers: the operand with seed and step, one for the whole graph, and a number
// that tells layers apart, from a name that is the node's alone. (dropout.c)
Tensor *random_key(Graph *graph, const Location *location);
unsigned dropout_number(const char *name);

// For shape_told: the output shall have the shape of t. (convolution.c)
void tell_shape(Attributes *attributes, const Tensor *t);

// ---- gradients (gradients.c)

// A gradient has the type of what it is the gradient of; that of a cast, the type of what was cast. (differentiate.c)
Type cotangent_type(const Tensor *x);

// A backward node in the block of the forward node; its first output.
Tensor *make_backward(Gradient *g, Op op, const char *name, Tensor *const *in, int ins, const Attributes *attributes);
// The sum over the first `dims` dims of x, of which a replica has `rows` rows in a micro-batch.
Tensor *make_column_sums(Gradient *g, const char *name, Tensor *x, int dims, long rows);

// The sums of what a kernel has summed for each chunk of its rows: partials[chunks, columns].
Tensor *make_partial_sums(Gradient *g, const char *name, Tensor *partials);
// The operand of OP_NORMALIZE_GRAD and OP_NORMALIZE_RELU_GRAD that holds the sum of the cotangent over a group's rows, [G,C].
enum { NORMALIZE_GRAD_SUM = 5 };
// A name for a part of the computation of din[i]: "conv1.weight.grad.product".
const char *part_name(Gradient *g, int i, const char *part);

// ---- placements (placements.c)

static const Placement R = {REPLICATE, 0}, P = {PARTIAL, 0};

static inline Placement S(int dim)
{
	return (Placement){SHARD, dim};
}

// A new rule: everything replicated until said otherwise.
Rule *add_rule(Rules *rules);

// The op is linear in this operand: over micro-batches it passes on a sum that has not ended.
void add_linear(Rules *rules, int operand);

// Needs: a graph with its gradients. Gives: cross-entropy and its gradient in one node where one pass can do both. (losses.c)
void join_losses(Graph *graph);

// Needs: a graph with its gradients, without dead nodes. Gives: sums over the pixels of normalised images as sums of chunks that are
// made where these images were. (pooled_norm.c)
void sum_normalized_images(Graph *graph);

// The optimizer's step for each parameter that has a gradient. (optimizer.c)
void update_parameters(Graph *graph);

// The epilogue's updates of running statistics. (batch_norm.c)
void update_running_statistics(Graph *graph);

#endif
