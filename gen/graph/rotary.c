// rotary.c: the rules of rotary position embeddings (Su et al., arXiv:2104.09864).
//
// The queries and the key of each group of qkv [T,B,groups,q+2,size] are turned, pairs of elements i and i + size / 2 (the
// form of Hugging Face's weights) by the angle position * theta^(-2i / size); the position is the index along dim 0. The
// gradient turns back.
#include "rules.h"

enum { MOST_SIZE = 512 }; // of a head: what the kernel's frequencies have room for

void shape_rope(Graph *graph, Node *node)
{
	const Tensor *x = node->in[0];
	want_real(graph, node, 0);
	if (x->dims != 5 || x->shape[3] < 3)
		fail_at(node->location, "rope: queries, keys and values [positions, batch, groups, queries + 2, size] are needed, not %s",
		        tensor_text(graph, x));
	if (x->shape[4] % 2 || x->shape[4] > MOST_SIZE)
		fail_at(node->location, "rope: the size of a head, %ld of %s, must be even and at most %d", x->shape[4], tensor_text(graph, x), MOST_SIZE);
	add_output(graph, node, graph->real, x->dims, x->shape);
}

void gradient_rope(Gradient *g)
{
	Attributes back = g->node->attributes;
	back.rotary.back = !back.rotary.back;
	g->din[0] = make_backward(g, OP_ROPE, g->names[0], g->dout, 1, &back);
}

// Heads are apart, and so are samples and positions. It is linear, but turning partial sums would save nothing.
void placement_rope(const Node *node, Rules *rules)
{
	add_rule(rules);
	for (int d = 0; d < 3; d++) {
		Rule *rule = add_rule(rules);
		rule->in[0] = rule->out[0] = S(d);
	}
	add_linear(rules, 0);
	(void)node;
}
