// dump.c: the graph as text for people and tests: a line a node, in execution order, with shapes and, once they are
// chosen, placements.
#include <string.h>

#include "ops.h"

static const char *const phase_names[] = {"prologue", "forward", "backward", "epilogue"};
static const char *const axis_names[] = {"mb", "dp", "tp", "pp"};

static void dump_placement(Text *out, const Tensor *t)
{
	for (int axis = 0; axis < PLACED_AXES; axis++) {
		Placement p = t->place[axis];
		if (p.kind == SHARD)
			text_add(out, " %s:S%d", axis_names[axis], p.dim);
		else if (p.kind == PARTIAL)
			text_add(out, " %s:P", axis_names[axis]);
	}
}

static void dump_attributes(Text *out, const Node *node)
{
	const Attributes *a = &node->attributes;
	switch (node->op) {
	case OP_MATMUL:
		text_add(out, " %s", (const char *[]){"nn", "nt", "tn"}[a->transpose]);
		if (a->parts)
			text_add(out, " rows of +%d of %ld", a->part, a->parts);
		break;
	case OP_SHIFT: text_add(out, " %s by %d", axis_names[a->axis], a->part); break;
	case OP_SCALE: case OP_CONSTANT: text_add(out, " %.9g", a->scale); break;
	case OP_SUM: case OP_COLUMN_SUMS: text_add(out, " dims %d..%d scale %.9g", a->from, a->to - 1, a->scale); break;
	case OP_EXPAND: text_add(out, " dims %d..%d", a->from, a->to - 1); break;
	case OP_ALL_REDUCE: case OP_KEEP_FIRST: text_add(out, " %s", axis_names[a->axis]); break;
	case OP_REDUCE_SCATTER: case OP_ALL_GATHER: case OP_ALL_TO_ALL: case OP_SLICE: case OP_PACK: case OP_UNPACK:
		text_add(out, " %s dim %d", axis_names[a->axis], a->dim);
		break;
	case OP_LAYER_NORM: case OP_RMS_NORM: text_add(out, " epsilon %.9g", a->epsilon); break;
	case OP_ROPE: text_add(out, " theta %.9g%s", a->rotary.theta, a->rotary.back ? " back" : ""); break;
	case OP_SGD: text_add(out, " momentum %.9g decay %.9g", a->momentum, a->decay); break;
	case OP_ADAMW: text_add(out, " betas %.9g %.9g epsilon %.9g decay %.9g", a->betas[0], a->betas[1], a->epsilon, a->decay); break;
	case OP_GRADIENT_NORM:
		if (a->scale > 0)
			text_add(out, " clip %.9g", a->scale);
		break;
	default: break;
	}
}

static void dump_node(const Graph *graph, const Node *node, Text *out)
{
	text_add(out, "  ");
	for (int i = 0; i < node->outs; i++)
		text_add(out, "%s%s", i ? ", " : "", node->out[i]->name);
	if (node->outs)
		text_add(out, ": %s", shape_text(graph->arena, node->out[0]));
	for (int i = 0; i < node->outs; i++)
		dump_placement(out, node->out[i]);
	text_add(out, "%s%s", node->outs ? " = " : "", op_name(node->op));
	dump_attributes(out, node);
	text_add(out, "(");
	for (int i = 0; i < node->ins; i++)
		text_add(out, "%s%s", i ? ", " : "", node->in[i]->name);
	text_add(out, ")%s%s\n", node->accumulate ? " accumulate" : "", node->evaluation ? " while evaluating" : "");
}

void dump_graph(const Graph *graph, Text *out)
{
	for (int phase = PHASE_PROLOGUE; phase <= PHASE_EPILOGUE; phase++) {
		int block = -1;
		bool any = false;
		for (int i = 0; i < graph->nodes.count; i++) {
			const Node *node = graph->nodes.at[i];
			if ((int)node->phase != phase)
				continue;
			if (!any)
				text_add(out, "%s\n", phase_names[phase]);
			any = true;
			if (node->block != block && graph->blocks.count > 1)
				text_add(out, " block %d %s\n", node->block, graph->blocks.at[node->block].name);
			block = node->block;
			dump_node(graph, node, out);
		}
	}
}
