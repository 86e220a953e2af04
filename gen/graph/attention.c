// attention.c: the rules of causal self-attention and its gradient.
//
// Queries, keys and values come packed, as the product with a fused weight gives them: qkv [T,B,G,q+2,hs] holds for each token of
// each sample G groups of q query heads, the key head that these share, and its value head. Sequences lie outermost, so that
// shards of them are contiguous. Each query attends to the tokens up to its own:
//   o[t] = sum over s <= t of p[t,s] v[s],   p[t,.] = softmax of q[t] . k[s] / sqrt(hs)     (Vaswani et al., 2017)
// The backward pass computes p anew from the log of each row's sum of exponentials, lse, instead of keeping it:
//   dv = p^T do,   ds = p (do v^T - delta) / sqrt(hs) with delta[t] = do[t] . o[t],   dq = ds k,   dk = ds^T q
#include "rules.h"

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
	if (g->dout[0]) // lse is nobody's operand but the gradient's
		g->din[0] = make_backward(g, OP_ATTENTION_GRAD, g->names[0], (Tensor *[]){g->dout[0], node->in[0], node->out[0], node->out[1]}, 4, NULL);
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
