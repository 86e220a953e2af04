// cost.c: how long a step takes on a device: the fixed part of its launches, and then the longer of its arithmetic and its traffic.
//
// A step counts the arithmetic of its nodes, and of bytes those that it reads and writes in memory, each tensor once: what fused nodes
// hand on to each other never gets there. A matrix product or convolution loads its operands beside the arithmetic and stores each
// tile behind it, so what its epilogue moves, the result included, is added. Convolutions that tensor cores compute in parts have a cost
// of their own (convolution.c). Collectives and messages: bytes over the link after the latency, and sums where copy engines carry them.
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

// Bytes that a node moves once more than it has operands and results: what it updates where it is stored is read and written.
static double bytes_again(const Plan *plan, const Node *node)
{
	double bytes = 0;
	for (int i = 0; i < node->ins; i++)
		if (writes_operand(node, i))
			bytes += (double)local_bytes(plan, node->in[i]) * (node->in[i]->in_halves ? 2 : 1); // and the copy, which is the other half
	return bytes;
}

static bool looks_up(const Node *node)
{
	return node->op == OP_EMBEDDING || node->op == OP_EMBEDDING_GRAD;
}

double node_bytes(const Plan *plan, const Node *node)
{
	double bytes = bytes_again(plan, node);
	if (node->op == OP_EMBEDDING) // it reads as many rows of the table as it writes
		return (double)local_bytes(plan, node->in[0]) + 2 * (double)local_bytes(plan, node->out[0]);
	if (node->op == OP_EMBEDDING_GRAD) { // it reads rows, and adds them to as many of the table, all of which the first micro-batch writes
		double made = adds_onto(node) ? 0 : (double)local_bytes(plan, node->out[0]) / plan->mesh[AXIS_MICRO];
		return (double)local_bytes(plan, node->in[0]) + 3 * (double)local_bytes(plan, node->in[1]) + made;
	}
	for (int i = 0; i < node->ins; i++)
		bytes += (double)local_bytes(plan, node->in[i]);
	for (int i = 0; i < node->outs; i++)
		bytes += (double)local_bytes(plan, node->out[i]);
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

double sent_bytes(const Plan *plan, const Step *step)
{
	double bytes = 0;
	for (int i = 0; i < step->nodes.count; i++)
		bytes += collective_bytes(plan, step->nodes.at[i]);
	return step->pieces ? bytes / step->pieces : bytes;
}

// What copy engines take beside the link's time: flags there and back, and what a copy loses to the kernels beside it. 33.5 MB take 92 us
// alone between two H200s, and 135 to 150 in steps.
static const double engines_latency = 25e-6;

double link_seconds(const Plan *plan, double bytes)
{
	return (bytes < plan->device->copied ? plan->device->latency : engines_latency) + bytes / plan->device->link;
}

// Of a step whose nodes are all of a kind. Where copy engines carry them, a kernel adds up what comes in, and an all-reduce goes twice.
static double collective_seconds(const Plan *plan, const Step *step)
{
	const Node *node = step->nodes.at[0];
	double n = plan->mesh[node->attributes.axis], bytes = sent_bytes(plan, step), added = 0;
	for (int i = 0; i < step->nodes.count; i++)
		added += (double)local_bytes(plan, step->nodes.at[i]->in[0]) * (n + 1) / n;
	bool all = node->op == OP_ALL_REDUCE, sums = all || node->op == OP_REDUCE_SCATTER, copied = bytes >= plan->device->copied;
	return link_seconds(plan, bytes) + (copied && all ? engines_latency : 0) + (copied && sums ? plan->device->launch + added / plan->device->memory : 0);
}

// What a device does for a step, or for a node on its own.
typedef struct {
	double arithmetic;      // seconds
	double bytes, behind;   // moved beside the arithmetic, and behind it
	int launches;
} Work;

// How many launches a node takes the time of beside its arithmetic and traffic, by what an H200 takes where there is little to do. Sums of
// columns are two kernels, the second of few threads, or one of few; a table's gradient sorts its rows with several; attention fills the device slowly
// and leaves it slowly, and its gradient is two or three kernels.
static int launches_of(const Node *node)
{
	switch (node->op) {
	case OP_SQUARED_NORMS: return 2;
	case OP_COLUMN_SUMS: return node->attributes.chunks > 1 ? 3 : 2;
	case OP_ATTENTION: return 4;
	case OP_EMBEDDING_GRAD: return 6;
	case OP_ATTENTION_GRAD: return 8;
	default: return 1;
	}
}

// The share of the rate of matrix products that attention reaches, by cuDNN on an H200: 310 and 228 TFLOP/s, forward and
// gradient, at heads of 64; 560 and 400 at 128; by the kernel of our own that some gradients have, 340.
static double attention_share(const Node *node)
{
	const Tensor *heads = node->in[0];
	long size = heads->shape[heads->dims - 1];
	if (node->op == OP_ATTENTION)
		return size >= 128 ? 0.70 : 0.39;
	return has_own_gradient(node) ? 0.43 : size >= 128 ? 0.50 : 0.285;
}

// The share of the device's rate that a product reaches in tiles of so many rows and columns, each in so many pieces of the sum over k:
// multiprocessors take one at a time, in rounds, the last of which is not full. What a tile loads for each element has to stay small.
static double tiled_share(int multiprocessors, long m, long n, long rows, long columns, long pieces)
{
	static const double least = 0.012, added = 0.8; // of tiles of 320 x 128 to 256 x 128: what is loaded costs nothing; pieces are added up
	long tiles = ((m + rows - 1) / rows) * ((n + columns - 1) / columns), rounds = (tiles * pieces + multiprocessors - 1) / multiprocessors;
	double loaded = (double)(rows + columns) / (double)(rows * columns);
	double filled = (double)m * (double)n * (double)pieces / ((double)rounds * multiprocessors * (double)(rows * columns));
	if (pieces > 1 && 2 * tiles > multiprocessors)
		return 0;
	return filled * (loaded > least ? least / loaded : 1) * (pieces > 1 ? added : 1);
}

// The same of the best tiles that a library has. On an H200, products of 1600 columns: 0.90 at 8192 rows, in tiles of 192 x 192, and 0.95 at
// 6400, in tiles of 320 x 128. Long sums are split where tiles are fewer than half of the multiprocessors: 1024 x 1024 by
// 16384 takes 56 us in a step.
static double product_share(const Plan *plan, const Node *node)
{
	enum { LEAST_SUM = 2048, MOST_PIECES = 8 };
	static const int tiles[][2] = {{320, 128}, {256, 128}, {192, 192}, {192, 128}, {160, 128}, {128, 128}, {128, 64}, {64, 64}};
	int m, n, k, multiprocessors = plan->device->multiprocessors;
	double best = 0;
	if (op_table[node->op].lowering != LOWER_GEMM || !multiprocessors)
		return 1;
	product_extents(plan, node, &m, &n, &k);
	for (size_t i = 0; i < 2 * sizeof tiles / sizeof *tiles; i++)
		for (int pieces = 1; pieces == 1 || (pieces <= MOST_PIECES && k / pieces >= LEAST_SUM); pieces++) {
			double share = tiled_share(multiprocessors, m, n, tiles[i / 2][i % 2], tiles[i / 2][1 - i % 2], pieces);
			best = share > best ? share : best;
		}
	return best;
}

static double arithmetic_seconds(const Plan *plan, const Node *node)
{
	Lowering lowering = op_table[node->op].lowering;
	bool products = lowering == LOWER_GEMM || lowering == LOWER_CONV || lowering == LOWER_ATTENTION || lowering == LOWER_CHUNKS;
	bool on_tensor_cores = products && (plan->tf32 || plan->graph->real == TYPE_BF16);
	double rate = plan->device->flops[on_tensor_cores ? plan->tf32 ? 1 : 2 : 0];
	ConvSlice slice = lowering == LOWER_CONV ? conv_slice(plan, node) : (ConvSlice){.samples = 0};
	if (slice.samples)
		return slice.seconds;
	double share = lowering == LOWER_ATTENTION ? attention_share(node) : on_tensor_cores ? product_share(plan, node) : 1;
	return node_flops(plan, node) / (share * rate);
}

// Whether it is a product or a convolution that stores its result behind its arithmetic.
static bool stores_behind(const Plan *plan, const Node *node)
{
	Lowering lowering = op_table[node->op].lowering;
	return lowering == LOWER_GEMM || (lowering == LOWER_CONV && !conv_slice(plan, node).samples);
}

static double work_seconds(const Plan *plan, const Work *work)
{
	double traffic = work->bytes / plan->device->memory, busy = work->arithmetic > traffic ? work->arithmetic : traffic;
	return work->launches * plan->device->launch + busy + work->behind / plan->device->memory;
}

double node_seconds(const Plan *plan, const Node *node)
{
	Lowering lowering = op_table[node->op].lowering;
	if (lowering == LOWER_NOTHING || lowering == LOWER_ALIAS)
		return 0;
	if (lowering == LOWER_COLLECTIVE)
		return collective_seconds(plan, &(Step){.nodes = {.at = &(Node *){(Node *)node}, .count = 1}});
	Work work = {arithmetic_seconds(plan, node), node_bytes(plan, node), 0, launches_of(node)};
	if (stores_behind(plan, node)) {
		work.behind = (double)local_bytes(plan, node->out[0]);
		work.bytes -= work.behind;
	}
	return work_seconds(plan, &work);
}

// Whether a step writes these bytes, or what follows its first node reads them.
static bool is_of_epilogue(const Step *step, const Access *access)
{
	bool reads = access->write;
	for (int i = 1; i < step->nodes.count && !reads; i++)
		for (int k = 0; k < step->nodes.at[i]->ins; k++)
			reads |= root_of(step->nodes.at[i]->in[k]) == access->tensor;
	return reads;
}

// Adds the bytes of each tensor that a step, were it for all rows, reads or writes, and once more of what it writes over what it has read. Of tables that are
// looked up, only rows.
static void add_bytes(const Plan *plan, const Step *step, Work *work)
{
	bool apart = stores_behind(plan, step->nodes.at[0]);
	if (looks_up(step->nodes.at[0])) {
		work->bytes = node_bytes(plan, step->nodes.at[0]);
		return;
	}
	for (int i = 0; i < step->accesses.count; i++) {
		const Access *access = &step->accesses.at[i];
		double bytes = (double)local_bytes(plan, access->tensor) / parts_of(&access->rows) * (access->rows.ranks ? steps_for_all(step) : 1);
		*(apart && is_of_epilogue(step, access) ? &work->behind : &work->bytes) += bytes;
	}
	for (int i = 0; i < step->nodes.count; i++) {
		const Node *node = step->nodes.at[i];
		bool over = step->accumulate || node->attributes.in_place;
		*(apart ? &work->behind : &work->bytes) += bytes_again(plan, node) + (over ? (double)local_bytes(plan, node->out[0]) : 0);
	}
}

// Of messages that are on their way together: the time of the fuller direction.
static double transfer_seconds(const Plan *plan, const Step *step)
{
	double bytes[2] = {0};
	for (int i = 0; i < step->messages.count; i++)
		bytes[step->messages.at[i].send] += (double)local_bytes(plan, step->messages.at[i].transfer->tensor);
	return link_seconds(plan, bytes[bytes[1] > bytes[0]]);
}

double part_seconds(const Plan *plan, double whole, int n)
{
	double launch = plan->device->launch;
	return launch + (whole - launch) / n;
}

double step_seconds(const Plan *plan, const Step *step)
{
	if (step->kind == STEP_TRANSFER)
		return transfer_seconds(plan, step);
	if (step->kind == STEP_COLLECTIVE)
		return collective_seconds(plan, step);
	Work work = {.launches = 1};
	for (int i = 0; i < step->nodes.count; i++) {
		int launches = launches_of(step->nodes.at[i]);
		work.arithmetic += arithmetic_seconds(plan, step->nodes.at[i]);
		work.launches = launches > work.launches ? launches : work.launches;
	}
	add_bytes(plan, step, &work);
	double whole = work_seconds(plan, &work);
	return part_seconds(plan, whole, steps_for_all(step));
}
