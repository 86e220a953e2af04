// stages.c: cuts the blocks of the forward graph into pipeline stages.
//
// Where the spec's mp.cut()s make exactly the wanted number of stages they are taken as they are. Otherwise every block
// boundary is a candidate, and the cuts minimise the slowest stage (dynamic programming over the blocks' predicted
// times); among equal ones the cuts come early.
#include <float.h>

#include "cost.h"

// Predicted seconds of a node beside the others of its block. What an element-wise node goes on from and what it makes count once: it
// mostly joins the step that makes the one, which then stores the other.
static double seconds_beside(const Plan *plan, const Node *node)
{
	double others = 0;
	bool joins = false;
	for (int i = 0; i < node->ins; i++) {
		const Node *producer = node->in[i]->producer;
		bool made = !joins && producer->block == node->block && producer->phase == node->phase && same_layout(node->in[i], node->out[0]);
		joins |= made;
		others += made ? 0 : (double)local_bytes(plan, node->in[i]);
	}
	return joins && op_table[node->op].lowering == LOWER_ELEMENTWISE ? others / plan->device->memory : node_seconds(plan, node);
}

// Predicted seconds of every block, forward and backward.
static double *block_times(const Plan *plan)
{
	const Graph *graph = plan->graph;
	double *times = arena_alloc(plan->arena, (size_t)graph->blocks.count * sizeof *times);
	for (int i = 0; i < graph->nodes.count; i++) {
		const Node *node = graph->nodes.at[i];
		if (node->phase == PHASE_FORWARD || node->phase == PHASE_BACKWARD)
			times[node->block] += seconds_beside(plan, node);
	}
	return times;
}

static void cut_where_told(Plan *plan)
{
	int stage = 0;
	for (int b = 0; b < plan->graph->blocks.count; b++) {
		if (b > 0 && plan->graph->blocks.at[b].cut)
			stage++;
		plan->stage_of[b] = stage;
	}
}

// best[k][b]: the slowest stage's time when the first b blocks make k stages; from[k][b]: where the last stage starts.
static void cut_by_cost(Plan *plan)
{
	int blocks = plan->graph->blocks.count, stages = plan->stages, width = blocks + 1;
	const double *time = block_times(plan);
	double *best = arena_alloc(plan->arena, (size_t)(stages + 1) * width * sizeof *best);
	int *from = arena_alloc(plan->arena, (size_t)(stages + 1) * width * sizeof *from);
	for (int i = 0; i < (stages + 1) * width; i++)
		best[i] = DBL_MAX;
	best[0] = 0;
	for (int k = 1; k <= stages; k++)
		for (int b = k; b <= blocks; b++) {
			double last = 0;
			for (int start = b - 1; start >= k - 1; start--) {
				last += time[start];
				double before = best[(k - 1) * width + start], slowest = before > last ? before : last;
				if (before < DBL_MAX && slowest <= best[k * width + b]) {
					best[k * width + b] = slowest;
					from[k * width + b] = start;
				}
			}
		}
	int end = blocks;
	for (int k = stages; k > 0; k--) {
		int start = from[k * width + end];
		for (int b = start; b < end; b++)
			plan->stage_of[b] = k - 1;
		end = start;
	}
}

void cut_stages(Plan *plan)
{
	const Graph *graph = plan->graph;
	int told = 1;
	for (int b = 1; b < graph->blocks.count; b++)
		told += graph->blocks.at[b].cut;
	plan->stages = plan->mesh[AXIS_PP];
	if (plan->stages > MAX_STAGES)
		fail_at(plan->location, "pp=%d: at most %d pipeline stages are supported", plan->stages, MAX_STAGES);
	if (graph->blocks.count < plan->stages)
		fail_at(plan->location, "pp=%d needs %d places to cut, but the model has %d block%s: pp=1 to pp=%d work\n"
		     "a block begins at each mp.block, each mp.cut, and each layer with parameters outside of mp.block",
		     plan->stages, plan->stages - 1, graph->blocks.count, graph->blocks.count == 1 ? "" : "s", graph->blocks.count);
	plan->stage_of = arena_alloc(plan->arena, (size_t)graph->blocks.count * sizeof *plan->stage_of);
	plan->cut_by_cost = told != plan->stages && plan->stages > 1;
	if (told == plan->stages)
		cut_where_told(plan);
	else
		cut_by_cost(plan);
}
