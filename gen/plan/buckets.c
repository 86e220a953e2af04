// buckets.c: gradient all-reduces behind the backward pass.
//
// The epilogue's all-reduces over dp whose operand a backward step of the same stage completes are taken in the order
// in which the last micro-batch completes them, and joined into buckets. Large ones lose less to the latency of a collective, but the
// first should begin early and little be left for the last: an eighth of all gradients, within bounds. A bucket is one
// all-reduce right behind the step that completes it: gradients of a bucket lie side by side in memory. A gradient that replicas share out
// (zero.c) is scattered by itself, behind the step that completes it.
#include "fuse.h"

enum { LEAST_BUCKET = 1 << 20, LARGEST_BUCKET = 24 << 20, BUCKETS = 8 };

static void remove_step(Function *function, int index)
{
	for (int i = index; i + 1 < function->steps.count; i++)
		function->steps.at[i] = function->steps.at[i + 1];
	function->steps.count--;
}

// The epilogue's all-reduce of t, taken out of its function; NULL when there is none that can move.
static Node *take_reduction(Role *role, const Tensor *t)
{
	Function *update = function_of(role, FUNCTION_UPDATE);
	for (int i = 0; i < update->steps.count; i++) {
		Step *step = &update->steps.at[i];
		if (step->kind != STEP_COLLECTIVE)
			continue;
		Node *node = step->nodes.at[0];
		if (node->op == OP_ALL_REDUCE && node->attributes.axis == AXIS_DP && node->attributes.in_place && node->in[0] == t) {
			remove_step(update, i);
			return node;
		}
	}
	return NULL;
}

// Where a bucket has to end: a unit of repetition has its own, so that equal ones stay equal.
static bool leaves_unit(const Plan *plan, const Step *bucket, const Step *next)
{
	int from = bucket->block, to = next->nodes.count ? next->block : from;
	return from != to && (plan->graph->blocks.at[from].unit || plan->graph->blocks.at[to].unit);
}

static Step new_bucket(const Plan *plan)
{
	return (Step){.kind = STEP_COLLECTIVE, .stream = STREAM_DP, .call = -1,
	              .when = plan->mesh[AXIS_MICRO] > 1 ? WHEN_LAST : WHEN_ALWAYS};
}

bool is_bucket(const Function *function, const Step *step)
{
	return function->kind == FUNCTION_BACKWARD && step->kind == STEP_COLLECTIVE && step->stream == STREAM_DP;
}

// Adds to the bucket what a step completes. Returns how many bytes.
static size_t take_completed(const Plan *plan, Role *role, const Step *step, Step *bucket)
{
	size_t bytes = 0;
	for (int k = 0; k < step->accesses.count; k++) {
		const Access *access = &step->accesses.at[k];
		Node *node = access->write ? take_reduction(role, access->tensor) : NULL;
		if (!node)
			continue;
		bucket->block = bucket->nodes.count ? bucket->block : step->block;
		list_add(plan->arena, &bucket->nodes, node);
		add_access(plan, bucket, access->tensor, true, 0);
		bytes += local_bytes(plan, access->tensor);
	}
	return bytes;
}

// Bytes behind which a bucket ends.
static size_t bucket_bytes(const Plan *plan, const Role *role)
{
	size_t all = 0;
	for (int i = 0; i < role->nodes[PHASE_EPILOGUE].count; i++) {
		const Node *node = role->nodes[PHASE_EPILOGUE].at[i];
		all += node->op == OP_ALL_REDUCE && node->attributes.axis == AXIS_DP ? local_bytes(plan, node->in[0]) : 0;
	}
	size_t part = all / BUCKETS;
	return part < LEAST_BUCKET ? LEAST_BUCKET : part > LARGEST_BUCKET ? LARGEST_BUCKET : part;
}

// ---- gradients of parameters that replicas store in parts

// The epilogue's step whose node reads t and scatters it, or packs it for that; taken out of its function. NULL: there is none.
static Node *take_scatter(Role *role, const Tensor *t)
{
	Function *update = function_of(role, FUNCTION_UPDATE);
	for (int i = 0; i < update->steps.count; i++) {
		Node *node = update->steps.at[i].nodes.count ? update->steps.at[i].nodes.at[0] : NULL;
		bool scatters = node && (node->op == OP_REDUCE_SCATTER || node->op == OP_PACK) && node->attributes.axis == AXIS_DP;
		if (scatters && root_of(node->in[0]) == t) {
			remove_step(update, i);
			return node;
		}
	}
	return NULL;
}

// Puts what scatters a tensor that was just completed at `index` of the backward pass. Returns how many steps.
static int insert_scatter(Plan *plan, Role *role, int index, const Tensor *t, int block)
{
	int count = 0;
	for (Node *node; (node = take_scatter(role, t)); t = node->out[0]) {
		Step step = step_of_node(plan, node);
		step.block = block;
		step.when = plan->mesh[AXIS_MICRO] > 1 ? WHEN_LAST : WHEN_ALWAYS;
		add_access(plan, &step, node->in[0], false, 0);
		add_access(plan, &step, node->out[0], true, 0);
		insert_step(plan, function_of(role, FUNCTION_BACKWARD), index + count++, step);
	}
	return count;
}

static bool is_written_from(const Function *function, int index, const Tensor *t)
{
	for (int i = index; i < function->steps.count; i++)
		for (int k = 0; k < function->steps.at[i].accesses.count; k++)
			if (function->steps.at[i].accesses.at[k].write && function->steps.at[i].accesses.at[k].tensor == t)
				return true;
	return false;
}

// What a step has completed, from `index` of the backward pass on. Returns how many steps.
static int scatter_completed(Plan *plan, Role *role, Step step, int index, int block)
{
	int count = 0;
	for (int k = 0; k < step.accesses.count; k++)
		if (step.accesses.at[k].write && !is_written_from(function_of(role, FUNCTION_BACKWARD), index + count, step.accesses.at[k].tensor))
			count += insert_scatter(plan, role, index + count, step.accesses.at[k].tensor, block);
	return count;
}

static void scatter_gradients(Plan *plan, Role *role)
{
	Function *backward = function_of(role, FUNCTION_BACKWARD);
	const Function *forward = function_of(role, FUNCTION_FORWARD);
	int index = 0;
	for (int i = 0; i < forward->steps.count && backward->steps.count; i++)
		if (forward->steps.at[i].kind == STEP_CHUNKS) // it makes gradients with its losses
			index += scatter_completed(plan, role, forward->steps.at[i], index, backward->steps.at[index].block);
	for (; index < backward->steps.count; index++)
		index += scatter_completed(plan, role, backward->steps.at[index], index + 1, backward->steps.at[index].block);
}

void make_buckets(Plan *plan, Role *role)
{
	scatter_gradients(plan, role);
	Function *backward = function_of(role, FUNCTION_BACKWARD);
	const Function *forward = function_of(role, FUNCTION_FORWARD);
	Step bucket = new_bucket(plan);
	size_t bytes = 0, enough = bucket_bytes(plan, role);
	int last = -1;
	for (int i = 0; i < forward->steps.count && backward->steps.count; i++)
		if (forward->steps.at[i].kind == STEP_CHUNKS) // it makes gradients with its losses
			bytes += take_completed(plan, role, &forward->steps.at[i], &bucket);
	for (int i = 0; i <= backward->steps.count; i++) {
		bool end = i == backward->steps.count;
		if (bucket.nodes.count && (end || bytes >= enough || leaves_unit(plan, &bucket, &backward->steps.at[i]))) {
			bucket.name = bucket.nodes.at[0]->name;
			insert_step(plan, backward, last + 1, bucket);
			bucket = new_bucket(plan);
			bytes = 0;
			i++;
			if (end)
				return;
		}
		if (end)
			return;
		Step completing = backward->steps.at[i];
		size_t completed = take_completed(plan, role, &completing, &bucket);
		last = completed ? i : last;
		bytes += completed;
	}
}
