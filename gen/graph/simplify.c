// simplify.c: removes nodes that nothing needs and marks those that only evaluation needs.
//
// What is needed starts at the nodes with effects (updates, metrics, outputs) and follows operands. A node that only
// an evaluation metric reaches runs only while evaluating. Parameters stay: checkpoints hold the whole model, whichever
// part of it a mode computes.
#include "ops.h"

static bool has_effect(const Node *node)
{
	return node->op == OP_PARAMETER || writes_operand(node, 0) || node->op == OP_METRIC || node->op == OP_OUTPUT;
}

static void mark(const Node *node, bool *needed)
{
	if (needed[node->id])
		return;
	needed[node->id] = true;
	for (int i = 0; i < node->ins; i++)
		mark(node->in[i]->producer, needed);
}

static void renumber(Graph *graph)
{
	for (int i = 0; i < graph->nodes.count; i++)
		graph->nodes.at[i]->id = i;
}

// The block of the only node that reads t, of every node that does when they share it, else -1.
static int block_of_readers(const Graph *graph, const Tensor *t)
{
	int block = -1;
	for (int i = 0; i < graph->nodes.count; i++)
		for (int k = 0; k < graph->nodes.at[i]->ins; k++)
			if (graph->nodes.at[i]->in[k] == t) {
				if (block >= 0 && graph->nodes.at[i]->block != block)
					return -1;
				block = graph->nodes.at[i]->block;
			}
	return block;
}

void sink_expansions(Graph *graph)
{
	for (int i = graph->nodes.count - 1; i >= 0; i--) {
		Node *node = graph->nodes.at[i];
		int block = node->op == OP_EXPAND && node->phase == PHASE_BACKWARD ? block_of_readers(graph, node->out[0]) : -1;
		if (block >= 0)
			node->block = block;
	}
}

void remove_dead_nodes(Graph *graph)
{
	renumber(graph);
	size_t bytes = (size_t)graph->nodes.count * sizeof(bool);
	bool *needed = arena_alloc(graph->arena, bytes + 1), *always = arena_alloc(graph->arena, bytes + 1);
	for (int i = 0; i < graph->nodes.count; i++) {
		const Node *node = graph->nodes.at[i];
		if (!has_effect(node))
			continue;
		mark(node, needed);
		if (node->op != OP_METRIC || !node->attributes.result->evaluation)
			mark(node, always);
	}
	int tensors = 0;
	for (int i = 0; i < graph->tensors.count; i++)
		if (needed[graph->tensors.at[i]->producer->id])
			graph->tensors.at[tensors++] = graph->tensors.at[i];
	int inputs = 0;
	for (int i = 0; i < graph->inputs.count; i++)
		if (needed[graph->inputs.at[i]->tensor->producer->id])
			graph->inputs.at[inputs++] = graph->inputs.at[i];
	graph->inputs.count = inputs;
	int kept = 0;
	for (int i = 0; i < graph->nodes.count; i++) {
		Node *node = graph->nodes.at[i];
		node->evaluation = !always[i];
		if (needed[i])
			graph->nodes.at[kept++] = node;
	}
	graph->nodes.count = kept;
	renumber(graph);
	graph->tensors.count = tensors;
	for (int i = 0; i < tensors; i++)
		graph->tensors.at[i]->id = i;
}
