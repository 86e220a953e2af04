// exchange.c: which collectives are large enough for copy engines, and the bytes that these need beside the operands.
//
// Copy engines begin later than a kernel of NCCL but take no multiprocessor (runtime/cuda/engines.c). What comes in to be added up has
// bytes of its own: of a reduce-scatter all parts of the other ranks; of an all-reduce as much, or, of a large one, that of a piece.
#include "exchange.h"

#include "cost.h"
#include "fuse.h"

// MP_EXCHANGE_FLAGS of runtime/engines.h, and what comes in of one piece of an all-reduce at the most.
enum { FLAGS_BYTES = 16384, PIECE_BYTES = 32 << 20 };

bool is_exchanged(const Plan *plan, const Step *step)
{
	if (step->kind != STEP_COLLECTIVE || (step->stream != STREAM_DP && step->stream != STREAM_TP))
		return false;
	const Node *node = step->nodes.at[0];
	bool known = node->op == OP_ALL_REDUCE || node->op == OP_REDUCE_SCATTER || node->op == OP_ALL_GATHER || node->op == OP_SHIFT;
	bool in_place = node->op != OP_ALL_REDUCE || node->attributes.in_place, real = node->in[0]->type != TYPE_I32;
	return known && real && in_place && sent_bytes(plan, step) >= plan->device->copied;
}

bool is_own_part_read(const Role *role, const Node *gather)
{
	const Tensor *gathered = root_of(gather->out[0]);
	if (gather->in[0]->inside == gather->out[0])
		return false; // it is there
	for (int f = 0; f < role->functions.count; f++)
		for (int i = 0; i < role->functions.at[f].steps.count; i++) {
			const Step *step = &role->functions.at[f].steps.at[i];
			bool others = step->parts && step->part; // rows of another device alone
			for (int k = 0; k < step->accesses.count && !others; k++)
				if (step->accesses.at[k].tensor == gathered && !makes(step, gather->out[0]))
					return true;
		}
	return false;
}

static size_t incoming_bytes(const Plan *plan, const Step *step)
{
	const Node *node = step->nodes.at[0];
	size_t n = (size_t)plan->mesh[node->attributes.axis], bytes = 0;
	if (node->op == OP_REDUCE_SCATTER)
		return (n - 1) * local_bytes(plan, node->out[0]);
	if (node->op != OP_ALL_REDUCE)
		return 0;
	for (int i = 0; i < step->nodes.count; i++)
		bytes += aligned(local_bytes(plan, step->nodes.at[i]->in[0]));
	size_t incoming = (n - 1) * aligned((bytes + n - 1) / n);
	return incoming < PIECE_BYTES ? incoming : PIECE_BYTES;
}

size_t exchange_bytes(const Plan *plan, const Role *role, int axis)
{
	size_t most = 0;
	for (int f = 0; f < role->functions.count; f++)
		for (int i = 0; i < role->functions.at[f].steps.count; i++) {
			const Step *step = &role->functions.at[f].steps.at[i];
			if (step->kind == STEP_TRANSFER && axis == AXIS_PP)
				return FLAGS_BYTES;
			if (!is_exchanged(plan, step) || step->nodes.at[0]->attributes.axis != (Axis)axis)
				continue;
			size_t bytes = FLAGS_BYTES + aligned(incoming_bytes(plan, step));
			most = bytes > most ? bytes : most;
		}
	return most;
}
