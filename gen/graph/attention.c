// attention.c: the rules of causal self-attention and its gradient.
//
// Queries, keys and values come packed, as the product with a fused weight gives them: qkv [T,B,G,q+2,hs] holds for each token of
// each sample G groups of q query heads, the key head that these share, and its value head. Sequences lie outermost, so that
// shards of them are contiguous. Each query attends to the tokens up to its own:
//   o[t] = sum over s <= t of p[t,s] v[s],   p[t,.] = softmax of q[t] . k[s] / sqrt(hs)     (Vaswani et al., 2017)
// The backward pass computes p anew from the log of each row's sum of exponentials, lse, instead of keeping it:
//   dv = p^T do,   ds = p (do v^T - delta) / sqrt(hs) with delta[t] = do[t] . o[t],   dq = ds k,   dk = ds^T q
//
// With dropout, o is a sum of p m v instead, where m is 0 for what is dropped and 1 / (1 - rate) for what is kept; then
//   dv = (p m)^T do,   ds = p (m do v^T - delta) / sqrt(hs),
// and delta is do . o still. Whether a weight is dropped depends on the seed, the layer, the step, the sample's place in the whole
// batch, the head's among all heads, query and key (see dropout.c); nothing is kept for the backward pass.
#include "rules.h"

enum { FORWARD_KEY = 1, GRADIENT_KEY = 4 }; // operands that only dropout needs

Tensor *add_attention(Graph *graph, const char *name, const Location *location, Tensor *qkv, double rate)
{
	bool drops = rate > 0 && graph->training;
	Attributes of = {.scale = drops ? rate : 0};
	Node *node = add_node(graph, OP_ATTENTION, name, location, PHASE_FORWARD, (Tensor *[]){qkv, drops ? random_key(graph, location) : NULL},
	                      FORWARD_KEY + drops, &of);
	if (drops)
		node->attributes.layer = dropout_number(node->name);
	return node->out[0];
}

void shape_attention(Graph *graph, Node *node)
{
	const Tensor *qkv = node->in[0];
	want_real(graph, node, 0);
	if (qkv->dims != 5 || qkv->shape[3] < 3)
		fail_at(node->location, "attention: packed heads [tokens, batch, groups, queries + 2, size] are needed, not %s",
		        tensor_text(graph, qkv));
	if (qkv->shape[4] % 8)
		fail_at(node->location, "attention: heads of %ld elements in %s: their size must be a multiple of 8", qkv->shape[4],
		        tensor_text(graph, qkv));
	const long *s = qkv->shape;
	add_output(graph, node, graph->real, 5, (long[]){s[0], s[1], s[2], s[3] - 2, s[4]});
	add_named_output(graph, node, "lse", graph->master, 4, (long[]){s[1], s[2], s[3] - 2, s[0]});
}

// From do, qkv, o and lse to dqkv.
void shape_attention_grad(Graph *graph, Node *node)
{
	add_output(graph, node, graph->real, 5, node->in[1]->shape);
}

void gradient_attention(Gradient *g)
{
	const Node *node = g->node;
	bool drops = node->ins > FORWARD_KEY;
	Tensor *in[] = {g->dout[0], node->in[0], node->out[0], node->out[1], drops ? node->in[FORWARD_KEY] : NULL};
	if (g->dout[0]) // lse is nobody's operand but the gradient's
		g->din[0] = make_backward(g, OP_ATTENTION_GRAD, g->names[0], in, GRADIENT_KEY + drops, &node->attributes);
}

// Replicas, samples, groups.
void placement_attention(const Node *node, Rules *rules)
{
	(void)node;
	add_rule(rules);
	for (int d = 1; d <= 2; d++) {
		Rule *rule = add_rule(rules);
		rule->in[0] = rule->out[0] = S(d);
		rule->out[1] = S(d - 1);
	}
}

void placement_attention_grad(const Node *node, Rules *rules)
{
	(void)node;
	add_rule(rules);
	add_linear(rules, 0);
	for (int d = 1; d <= 2; d++) {
		Rule *rule = add_rule(rules);
		rule->in[0] = rule->in[1] = rule->in[2] = rule->out[0] = S(d);
		rule->in[3] = S(d - 1);
	}
}

// Two products forward, five backward, of which the mask leaves half.
double cost_attention(const Node *node)
{
	const Tensor *o = node->op == OP_ATTENTION ? node->out[0] : node->in[2];
	double products = node->op == OP_ATTENTION ? 2 : 5;
	return products * (double)tensor_elements(o) * (double)o->shape[0];
}
