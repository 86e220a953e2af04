// placements.c: the placement rules of the op table.
//
// For one mesh axis a rule says: with the inputs placed so, the op computes its outputs placed so, on each device
// alone. gen/plan chooses among an op's rules by the bytes that converting the inputs would move; ties go to the
// earlier rule. Replicated comes first, so that what nothing shards stays replicated. Partial passes only
// where the op is linear in that operand and adds nothing of its own; and where waiting for the sum would cost nothing
// but could not be done: over micro-batches, any op passes on sums that it is linear in.
#include "rules.h"

Rule *add_rule(Rules *rules)
{
	assert(rules->count < MAX_RULES);
	Rule *rule = &rules->at[rules->count++];
	*rule = (Rule){0};
	return rule;
}

void placement_given(const Node *node, Rules *rules)
{
	(void)node, (void)rules; // whoever made the node placed its output
}

void placement_replicated(const Node *node, Rules *rules)
{
	(void)node;
	add_rule(rules);
}

// Operand i of shape b under a result of shape a: dim d of the result is dim d - (a.dims - b.dims) of the operand.
static Placement operand_shard(const Tensor *result, const Tensor *operand, int dim)
{
	int d = dim - (result->dims - operand->dims);
	return d < 0 || operand->shape[d] != result->shape[dim] ? R : S(d);
}

void placement_elementwise(const Node *node, Rules *rules)
{
	const Tensor *result = node->out[0];
	add_rule(rules);
	for (int d = 0; d < result->dims; d++) {
		Rule *rule = add_rule(rules);
		for (int i = 0; i < node->ins; i++)
			rule->in[i] = operand_shard(result, node->in[i], d);
		rule->out[0] = S(d);
	}
}

void add_linear(Rules *rules, int operand)
{
	Rule *rule = add_rule(rules);
	rule->in[operand] = rule->out[0] = P;
	rule->on = ON_MICRO;
}

// Gradients of element-wise ops: linear in the cotangent, their first operand.
void placement_gradient(const Node *node, Rules *rules)
{
	placement_elementwise(node, rules);
	add_linear(rules, 0);
}

void placement_rows_gradient(const Node *node, Rules *rules)
{
	placement_rows(node, rules);
	add_linear(rules, 0);
}

void placement_linear(const Node *node, Rules *rules)
{
	placement_elementwise(node, rules);
	Rule *rule = add_rule(rules);
	rule->in[0] = rule->in[1] = rule->out[0] = P;
}

void placement_scale(const Node *node, Rules *rules)
{
	placement_elementwise(node, rules);
	Rule *rule = add_rule(rules);
	rule->in[0] = rule->out[0] = P;
}

// A product is linear in each factor, but only scalars pass on partial: bigger ones are cheaper to reduce at once.
void placement_broadcast(const Node *node, Rules *rules)
{
	placement_elementwise(node, rules);
	for (int i = 0; i < node->ins; i++) {
		add_linear(rules, i);
		rules->at[rules->count - 1].on = node->out[0]->dims > 0 ? ON_MICRO : ON_ANY_AXIS;
	}
}

void placement_divide(const Node *node, Rules *rules)
{
	placement_elementwise(node, rules);
	add_linear(rules, 0);
	rules->at[rules->count - 1].on = node->out[0]->dims > 0 ? ON_MICRO : ON_ANY_AXIS;
}

static void add_product(Rules *rules, Placement a, Placement b, Placement result)
{
	Rule *rule = add_rule(rules);
	rule->in[0] = a, rule->in[1] = b, rule->out[0] = result;
}

// Replicas, sums that have not ended, the dims of the first operand, those of the second, in order.
void placement_matmul(const Node *node, Rules *rules)
{
	const Tensor *a = node->in[0], *b = node->in[1];
	int rows = matmul_rows(node), last = b->dims - 1; // of b
	add_rule(rules);
	add_linear(rules, 0);
	add_linear(rules, 1);
	switch (node->attributes.transpose) {
	case MATMUL_TN: // [rows…,m…] [rows…,n] -> [m…,n]
		for (int d = rows; d < a->dims; d++)
			add_product(rules, S(d), R, S(d - rows));
		add_product(rules, R, S(last), S(a->dims - rows));
		for (int d = 0; d < rows; d++)
			add_product(rules, S(d), S(d), P);
		break;
	case MATMUL_NT: // [rows…,k] [n…,k] -> [rows…,n…]
		for (int d = 0; d < rows; d++)
			add_product(rules, S(d), R, S(d));
		for (int d = 0; d < last; d++)
			add_product(rules, R, S(d), S(rows + d));
		add_product(rules, S(rows), S(last), P);
		break;
	case MATMUL_NN: // [rows…,k…] [k…,n] -> [rows…,n]
		for (int d = 0; d < rows; d++)
			add_product(rules, S(d), R, S(d));
		add_product(rules, R, S(last), S(rows));
		for (int d = 0; d < last; d++)
			add_product(rules, S(rows + d), S(d), P);
	}
}

// A dim keeps its shards where it leads a group of dims with equal extents on both sides: [B,C,H] -> [B,C*H] keeps
// B and C, [B*T,d] -> [B,T,d] keeps B.
void placement_reshape(const Node *node, Rules *rules)
{
	const Tensor *x = node->in[0], *y = node->out[0];
	add_rule(rules);
	int i = 0, j = 0;
	while (true) {
		while (i < x->dims && x->shape[i] == 1) // extents of 1 lie anywhere
			i++;
		while (j < y->dims && y->shape[j] == 1)
			j++;
		if (i == x->dims || j == y->dims)
			break;
		Rule *rule = add_rule(rules);
		rule->in[0] = S(i), rule->out[0] = S(j);
		long left = x->shape[i++], right = y->shape[j++];
		while (left != right) {
			if (left < right)
				left *= x->shape[i++];
			else
				right *= y->shape[j++];
		}
	}
	Rule *rule = add_rule(rules);
	rule->in[0] = rule->out[0] = P;
}

// Between [N,C,H,W] and [N,H,W,C].
void placement_permute(const Node *node, Rules *rules)
{
	static const int last[4] = {0, 3, 1, 2}; // where each dim of [N,C,H,W] goes
	add_rule(rules);
	for (int d = 0; d < 4; d++) {
		Rule *rule = add_rule(rules);
		rule->in[0] = node->attributes.channels_last ? S(d) : S(last[d]);
		rule->out[0] = node->attributes.channels_last ? S(last[d]) : S(d);
	}
	Rule *rule = add_rule(rules);
	rule->in[0] = rule->out[0] = P;
}

void placement_sum(const Node *node, Rules *rules)
{
	const Attributes *a = &node->attributes;
	add_rule(rules);
	for (int d = 0; d < node->in[0]->dims; d++) {
		Rule *rule = add_rule(rules);
		rule->in[0] = S(d);
		rule->out[0] = d < a->from ? S(d) : d < a->to ? P : S(d - (a->to - a->from));
	}
	Rule *rule = add_rule(rules);
	rule->in[0] = rule->out[0] = P;
}

// As a sum; each device keeps the partial sums of what it has.
void placement_column_sums(const Node *node, Rules *rules)
{
	int to = node->attributes.to;
	add_rule(rules);
	for (int d = 0; d < node->in[0]->dims; d++) {
		Rule *rule = add_rule(rules);
		rule->in[0] = S(d);
		rule->out[0] = d < to ? P : S(d - to);
		rule->out[1] = d < to ? P : S(d - to + 1);
	}
	Rule *rule = add_rule(rules);
	rule->in[0] = rule->out[0] = rule->out[1] = P;
}

void placement_expand(const Node *node, Rules *rules)
{
	const Attributes *a = &node->attributes;
	add_rule(rules);
	for (int d = 0; d < node->out[0]->dims; d++) {
		Rule *rule = add_rule(rules);
		rule->in[0] = d < a->from ? S(d) : d < a->to ? R : S(d - (a->to - a->from));
		rule->out[0] = S(d);
	}
	Rule *rule = add_rule(rules);
	rule->in[0] = rule->out[0] = P;
}

// Ops on rows: the last dim of the widest operand is whole, the dims before it may be sharded.
void placement_rows(const Node *node, Rules *rules)
{
	add_rule(rules);
	for (int d = 0; d < node->in[0]->dims - 1; d++) {
		Rule *rule = add_rule(rules);
		for (int i = 0; i < node->ins; i++)
			rule->in[i] = S(d);
		for (int i = 0; i < node->outs; i++)
			rule->out[i] = S(d);
	}
}

// Logits, labels, what is known of each row, and the slope of each or of all.
void placement_cross_entropy_and_grad(const Node *node, Rules *rules)
{
	placement_rows(node, rules);
	int slope = node->ins - 1;
	for (int i = 0; i < rules->count && !node->in[slope]->dims; i++)
		rules->at[i].in[slope] = R;
}

// Each class learns from its own logit.
void placement_cross_entropy_grad(const Node *node, Rules *rules)
{
	placement_cross_entropy_and_grad(node, rules);
	Rule *rule = add_rule(rules);
	rule->in[0] = rule->out[0] = S(node->in[0]->dims - 1);
	rule->on = ON_TP;
}

// Of logits [rows…,classes] and labels [rows…], what is known of each part of the classes: [parts,..,rows…].
void placement_classes(const Node *node, Rules *rules)
{
	int rows = node->in[0]->dims - 1;
	add_rule(rules)->on = ON_SAMPLES; // the whole batch on every replica
	for (int d = 0; d < rows; d++) {
		Rule *rule = add_rule(rules);
		rule->in[0] = rule->in[1] = S(d), rule->out[0] = S(d + 2);
		rule->on = ON_SAMPLES;
	}
	Rule *parts = add_rule(rules);
	parts->in[0] = S(rows), parts->out[0] = S(0);
	parts->on = ON_TP;
}

// All parts are combined, row by row.
void placement_of_classes(const Node *node, Rules *rules)
{
	add_rule(rules);
	for (int d = 0; d < node->in[1]->dims; d++) {
		Rule *rule = add_rule(rules);
		rule->in[0] = S(d + 2), rule->in[1] = S(d);
		for (int i = 0; i < node->outs; i++)
			rule->out[i] = S(d);
		rule->on = ON_SAMPLES;
	}
}

void placement_sum_all(const Node *node, Rules *rules)
{
	add_rule(rules);
	for (int d = 0; d < node->in[0]->dims; d++) {
		Rule *rule = add_rule(rules);
		rule->in[0] = S(d), rule->out[0] = P;
	}
}

// An update runs where the parameter is stored: gradient and state follow the parameter, the rate is a scalar.
void placement_update(const Node *node, Rules *rules)
{
	add_rule(rules);
	for (int d = 0; d < node->in[0]->dims; d++) {
		Rule *rule = add_rule(rules);
		for (int i = 0; i < node->ins; i++)
			rule->in[i] = node->in[i]->dims ? S(d) : R;
	}
}

// What the user receives is whole, but for the samples of a replica.
void placement_sink(const Node *node, Rules *rules)
{
	add_rule(rules);
	if (node->op == OP_OUTPUT) {
		Rule *rule = add_rule(rules);
		rule->in[0] = S(0);
		rule->on = ON_DP;
	}
}
