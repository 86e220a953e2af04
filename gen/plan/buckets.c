// buckets.c: gradient all-reduces behind the backward pass.
//
// The epilogue's all-reduces over dp whose operand a backward step of the same stage completes are taken in the order
// in which the last micro-batch completes them, and joined into buckets. Large ones lose less to the latency of a collective, but the
// first should begin early and little be left for the last: an eighth of all gradients, within bounds. A bucket is one
// all-reduce right behind the step that completes it: gradients of a bucket lie side by side in memory.
//
// What is left for the epilogue is many small ones: over tp, of norms and biases that each device has computed from its own rows, and over dp
// where replicas share out what is large (zero.c). A latency each is all that they take, and during the backward pass products hold the
// multiprocessors that they need. So they become a bucket of each axis there, and over dp so do those that are reduced over tp as well: a
// gradient lies in one bucket.
#include "fuse.h"

enum { LEAST_BUCKET = 1 << 20, LARGEST_BUCKET = 24 << 20, BUCKETS = 8, SMALL = LEAST_BUCKET };

// The all-reduce in place of t that a step is, alone; NULL: it is something else.
static Node *reduction_of(const Step *step, const Tensor *t)
{
	Node *node = step->kind == STEP_COLLECTIVE && step->nodes.count == 1 ? step->nodes.at[0] : NULL;
	return node && node->op == OP_ALL_REDUCE && node->attributes.in_place && node->in[0] == t ? node : NULL;
}

// Whether a gradient is left for the epilogue: a small one that is reduced over another axis as well, or where large ones are scattered or of
// another type.
static bool is_left(const Plan *plan, const Function *update, const Node *reduction)
{
	if (local_bytes(plan, reduction->in[0]) > SMALL)
		return false;
	if (plan->zero || (plan->rounded && reduction->in[0]->type == plan->graph->master))
		return true;
	for (int i = 0; i < update->steps.count; i++) {
		const Step *step = &update->steps.at[i];
		const Node *node = step->kind == STEP_COLLECTIVE ? reduction_of(step, step->nodes.at[0]->in[0]) : NULL;
		if (node && node != reduction && root_of(node->in[0]) == root_of(reduction->in[0]))
			return true;
	}
	return false;
}

// Where among the epilogue's steps the all-reduce of t is, if it can move; -1: nowhere.
static int find_reduction(const Plan *plan, const Function *update, const Tensor *t)
{
	for (int i = 0; i < update->steps.count; i++) {
		const Node *node = reduction_of(&update->steps.at[i], t);
		if (node && node->attributes.axis == AXIS_DP && !is_left(plan, update, node))
			return i;
	}
	return -1;
}

// Where a bucket has to end: a unit of repetition has its own, so that equal ones stay equal.
static bool leaves_unit(const Plan *plan, const Step *bucket, const Step *next)
{
	int from = bucket->block, to = next->nodes.count ? next->block : from;
	return from != to && (plan->graph->blocks.at[from].unit || plan->graph->blocks.at[to].unit);
}

// And where the next gradient is of another type.
static bool changes_type(const Plan *plan, const Function *update, const Step *bucket, const Step *next)
{
	for (int k = 0; plan->rounded && k < next->accesses.count; k++) {
		const Access *access = &next->accesses.at[k];
		if (access->write && access->tensor->type != bucket->accesses.at[0].tensor->type && find_reduction(plan, update, access->tensor) >= 0)
			return true;
	}
	return false;
}

static Step new_bucket(const Plan *plan)
{
	return (Step){.kind = STEP_COLLECTIVE, .stream = STREAM_DP, .call = -1,
	              .when = plan->mesh[AXIS_MICRO] > 1 ? WHEN_LAST : WHEN_ALWAYS};
}

bool is_bucket(const Function *function, const Step *step)
{
	bool backward = function->kind == FUNCTION_BACKWARD && step->stream == STREAM_DP;
	return step->kind == STEP_COLLECTIVE && (backward || (function->kind == FUNCTION_UPDATE && step->nodes.count > 1));
}

// Adds to the bucket what a step completes. Returns how many bytes.
static size_t take_completed(const Plan *plan, Role *role, const Step *step, Step *bucket)
{
	Function *update = function_of(role, FUNCTION_UPDATE);
	size_t bytes = 0;
	for (int k = 0; k < step->accesses.count; k++) {
		const Access *access = &step->accesses.at[k];
		int reduction = access->write ? find_reduction(plan, update, access->tensor) : -1;
		if (reduction < 0)
			continue;
		assert(!bucket->accesses.count || bucket->accesses.at[0].tensor->type == access->tensor->type);
		bucket->block = bucket->nodes.count ? bucket->block : step->block;
		list_add(plan->arena, &bucket->nodes, update->steps.at[reduction].nodes.at[0]);
		remove_step(update, reduction);
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

static void make_buckets_behind_backward(Plan *plan, Role *role)
{
	Function *backward = function_of(role, FUNCTION_BACKWARD);
	const Function *forward = function_of(role, FUNCTION_FORWARD), *update = function_of(role, FUNCTION_UPDATE);
	Step bucket = new_bucket(plan);
	size_t bytes = 0, enough = bucket_bytes(plan, role);
	int last = -1;
	for (int i = 0; i < forward->steps.count && backward->steps.count; i++)
		if (forward->steps.at[i].kind == STEP_CHUNKS) // it makes gradients with its losses
			bytes += take_completed(plan, role, &forward->steps.at[i], &bucket);
	for (int i = 0; i <= backward->steps.count; i++) {
		bool end = i == backward->steps.count;
		if (bucket.nodes.count && (end || bytes >= enough || leaves_unit(plan, &bucket, &backward->steps.at[i])
		                             || changes_type(plan, update, &bucket, &backward->steps.at[i]))) {
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

// ---- the epilogue

// A small gradient that the backward pass makes, as it is.
static bool is_small_gradient(const Plan *plan, const Step *step)
{
	Node *node = step->kind == STEP_COLLECTIVE ? step->nodes.at[0] : NULL;
	const Tensor *root = node ? root_of(node->in[0]) : NULL;
	return node && reduction_of(step, node->in[0]) && root->parameter && root->producer->phase == PHASE_BACKWARD
	    && root->place[AXIS_MICRO].kind != SHARD && local_bytes(plan, root) <= SMALL;
}

// Where a step uses a tensor: which of its accesses; -1: nowhere.
static int access_of(const Step *step, const Tensor *root)
{
	for (int i = 0; i < step->accesses.count; i++)
		if (step->accesses.at[i].tensor == root)
			return i;
	return -1;
}

// Whether two gradients may lie one behind the other: as they do in a bucket of another axis, or in none.
static bool may_follow(const Function *update, const Step *bucket, const Tensor *root)
{
	const Tensor *last = bucket->accesses.at[bucket->accesses.count - 1].tensor;
	for (int i = 0; i < update->steps.count; i++) {
		const Step *other = &update->steps.at[i];
		if (other == bucket || !is_bucket(update, other))
			continue;
		int before = access_of(other, last), behind = access_of(other, root);
		if (before >= 0 ? behind != before + 1 : behind >= 0)
			return false;
	}
	return true;
}

static size_t bytes_of(const Plan *plan, const Step *bucket)
{
	size_t bytes = 0;
	for (int i = 0; i < bucket->accesses.count; i++)
		bytes += local_bytes(plan, bucket->accesses.at[i].tensor);
	return bytes;
}

// The earlier step that a reduction joins: of its axis and type, with nothing in between that uses the gradient. NULL: none.
static Step *bucket_for(const Plan *plan, Function *update, int reduction)
{
	const Step *step = &update->steps.at[reduction];
	const Tensor *root = step->accesses.at[0].tensor;
	for (int i = reduction - 1; i >= 0 && access_of(&update->steps.at[i], root) < 0; i--) {
		Step *bucket = &update->steps.at[i];
		bool alike = bucket->stream == step->stream && (is_small_gradient(plan, bucket) || is_bucket(update, bucket))
		          && bucket->accesses.at[0].tensor->type == root->type;
		if (alike)
			return bytes_of(plan, bucket) + local_bytes(plan, root) <= LARGEST_BUCKET && may_follow(update, bucket, root) ? bucket : NULL;
	}
	return NULL;
}

static void join_reductions(const Plan *plan, Function *update, Stream stream)
{
	for (int i = 1; i < update->steps.count; i++) {
		const Step *step = &update->steps.at[i];
		Step *bucket = step->stream == stream && is_small_gradient(plan, step) ? bucket_for(plan, update, i) : NULL;
		if (!bucket)
			continue;
		list_add(plan->arena, &bucket->nodes, step->nodes.at[0]);
		add_access(plan, bucket, step->accesses.at[0].tensor, true, 0);
		bucket->name = "gradients";
		remove_step(update, i--);
	}
}

void make_buckets(Plan *plan, Role *role)
{
	make_buckets_behind_backward(plan, role);
	for (Stream stream = STREAM_DP; stream <= STREAM_TP; stream++)
		join_reductions(plan, function_of(role, FUNCTION_UPDATE), stream);
}
