// cost.c: how long a step takes on a device: the longer of its arithmetic and its traffic, never less than the time
// between two launches. Convolutions that tensor cores compute in parts have a cost of their own (convolution.c). Collectives and
// messages: bytes over the link after the latency.
#include "cost.h"

double node_flops(const Plan *plan, const Node *node)
{
	if (!op_table[node->op].flops)
		return 0;
	double flops = op_table[node->op].flops(node);
	for (int axis = 0; axis < PLACED_AXES; axis++) {
		bool splits = false;
		for (int i = 0; i < node->ins; i++)
			splits |= node->in[i]->place[axis].kind == SHARD;
		for (int i = 0; i < node->outs; i++)
			splits |= node->out[i]->place[axis].kind == SHARD;
		if (splits)
			flops /= plan->mesh[axis];
	}
	return flops;
}

double node_bytes(const Plan *plan, const Node *node)
{
	double bytes = 0;
	if (node->op == OP_EMBEDDING) // it reads as many rows of the table as it writes
		return (double)local_bytes(plan, node->in[0]) + 2 * (double)local_bytes(plan, node->out[0]);
	if (adds_onto(node)) // it reads rows, and reads and writes as many of the table
		return (double)local_bytes(plan, node->in[0]) + 3 * (double)local_bytes(plan, node->in[1]);
	for (int i = 0; i < node->ins; i++)
		bytes += (double)local_bytes(plan, node->in[i]);
	for (int i = 0; i < node->outs; i++)
		bytes += (double)local_bytes(plan, node->out[i]);
	for (int i = 0; i < node->ins; i++) // updated where they are stored: written too
		if (writes_operand(node, i))
			bytes += (double)local_bytes(plan, node->in[i]);
	return bytes;
}

// Bytes that each device sends in a collective over n devices. t: the operand; all extents are those of one device.
double collective_bytes(const Plan *plan, const Node *node)
{
	double n = plan->mesh[node->attributes.axis], bytes = (double)local_bytes(plan, node->in[0]);
	switch (node->op) {
	case OP_ALL_REDUCE: return 2 * bytes * (n - 1) / n;
	case OP_ALL_GATHER: return bytes * (n - 1);
	case OP_SHIFT: return bytes;
	default: return bytes * (n - 1) / n; // reduce-scatter, all-to-all
	}
}

double seconds(const Plan *plan, Lowering lowering, double flops, double bytes)
{
	const Device *device = plan->device;
	if (lowering == LOWER_COLLECTIVE)
		return device->latency + bytes / device->link;
	bool products = lowering == LOWER_GEMM || lowering == LOWER_CONV || lowering == LOWER_ATTENTION || lowering == LOWER_CHUNKS;
	bool on_tensor_cores = products && (plan->tf32 || plan->graph->real == TYPE_BF16);
	double arithmetic = flops / device->flops[on_tensor_cores ? plan->tf32 ? 1 : 2 : 0], traffic = bytes / device->memory;
	double busy = arithmetic > traffic ? arithmetic : traffic;
	return busy > device->launch ? busy : device->launch;
}

// The share of the rate of matrix products that attention reaches, by cuDNN on an H100: 290 and 206 TFLOP/s, forward and
// gradient, at heads of 64; 520 and 370 at 128.
static double attention_share(const Node *node)
{
	const Tensor *heads = node->in[0];
	bool wide = heads->shape[heads->dims - 1] >= 128;
	return node->op == OP_ATTENTION ? wide ? 0.76 : 0.43 : wide ? 0.54 : 0.3;
}

double node_seconds(const Plan *plan, const Node *node)
{
	Lowering lowering = op_table[node->op].lowering;
	if (lowering == LOWER_NOTHING || lowering == LOWER_ALIAS)
		return 0;
	ConvSlice slice = lowering == LOWER_CONV ? conv_slice(plan, node) : (ConvSlice){.samples = 0};
	if (slice.samples)
		return slice.seconds;
	double bytes = lowering == LOWER_COLLECTIVE ? collective_bytes(plan, node) : node_bytes(plan, node);
	double flops = node_flops(plan, node);
	return seconds(plan, lowering, lowering == LOWER_ATTENTION ? flops / attention_share(node) : flops, bytes);
}
