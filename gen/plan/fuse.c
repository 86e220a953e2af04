// fuse.c: from the nodes of a role to steps: what the emitted program enqueues one after another.
//
// Element-wise nodes that follow one another and share a shape become one kernel. A bias right behind a matrix product
// or convolution joins the library call; so do an activation behind a product, also where others read what the activation
// reads, and the gradient of an activation behind the product that makes its operand. A kernel on rows takes along the element-wise
// nodes that make what it reads, and those that alone read its result. Across a block boundary, where some plan may cut, nothing is
// fused that would change a bit: all plans give the same ones.
#include <string.h>

#include "fuse.h"

typedef struct {
	Plan *plan;
	int *uses;              // by tensor id: nodes that read it
} Fusing;

Function *function_of(Role *role, FunctionKind kind)
{
	return &role->functions.at[kind];
}

bool makes(const Step *step, const Tensor *t)
{
	for (int i = 0; i < step->nodes.count; i++)
		for (int k = 0; k < step->nodes.at[i]->outs; k++)
			if (step->nodes.at[i]->out[k] == t)
				return true;
	return false;
}

bool is_sent(const Plan *plan, const Step *step)
{
	for (int i = 0; i < plan->transfers.count; i++)
		if (makes(step, plan->transfers.at[i]->tensor))
			return true;
	return false;
}

static bool joins_elementwise(const Step *step, const Node *node)
{
	bool connected = false;
	const Node *last = step->nodes.at[step->nodes.count - 1];
	if (step->kind != STEP_ELEMENTWISE || last->block != node->block || last->evaluation != node->evaluation
	    || !same_layout(last->out[0], node->out[0]))
		return false;
	for (int i = 0; i < node->ins; i++) {
		bool inside = makes(step, node->in[i]);
		connected |= inside;
		if (inside && !same_layout(node->in[i], node->out[0]))
			return false;
	}
	return connected;
}

// How many of the last dims of a product or convolution a bias has.
static int bias_dims(const Node *node)
{
	bool several = node->op == OP_MATMUL && node->attributes.transpose == MATMUL_NT;
	return several ? node->out[0]->dims - matmul_rows(node) : 1;
}

// Whether the library computes GELU and its gradient behind a product: it wants every row of the operands and of the result, and
// of the tensor beside the result that the activation reads, to be a multiple of 8 elements. Then rows, and slots of
// micro-batches, are multiples of 16 bytes as well. In f32 cuBLASLt's GELU is off by 1e-5, as much as a whole model may be: our
// own kernels compute it there.
static bool takes_gelu(const Plan *plan, const Node *product)
{
	enum { WHOLE = 8 };
	int m, n, k;
	product_extents(plan, product, &m, &n, &k);
	return product->in[0]->type != TYPE_F32 && product->attributes.transpose != MATMUL_TN && n % WHOLE == 0 && k % WHOLE == 0 && product->in[0]->type == product->out[0]->type;
}

// An activation, or an activation's gradient, behind a product (and its bias). What a ReLU reads must be its own: the library
// would keep no more than one bit of it.
static bool joins_as_activation(const Fusing *f, const Step *step, const Node *node)
{
	const Node *product = step->nodes.at[0], *last = step->nodes.at[step->nodes.count - 1];
	bool alone = f->uses[last->out[0]->id] == 1;
	if (step->kind != STEP_GEMM || (last != product && last->op != OP_ADD))
		return false;
	switch (node->op) {
	case OP_RELU: return alone;
	case OP_GELU_TANH: return takes_gelu(f->plan, product);
	case OP_GELU_TANH_GRAD: return alone && last == product && same_layout(node->in[1], node->out[0]) && takes_gelu(f->plan, product);
	default: return false;
	}
}

static bool joins_as_bias(const Fusing *f, const Step *step, const Node *node)
{
	const Node *last = step->nodes.at[step->nodes.count - 1];
	return node->op == OP_ADD && (last->op == OP_MATMUL || last->op == OP_CONV2D) && f->uses[last->out[0]->id] == 1
	    && node->in[1]->dims == bias_dims(last);
}

static bool joins_library_call(const Fusing *f, const Step *step, const Node *node)
{
	if ((step->kind != STEP_GEMM && step->kind != STEP_CONV) || step->accumulate)
		return false;
	const Node *last = step->nodes.at[step->nodes.count - 1];
	bool follows = node->in[0] == last->out[0] && last->block == node->block && last->evaluation == node->evaluation
	    && same_layout(last->out[0], node->out[0]) && node->in[node->ins - 1]->type == last->out[0]->type;
	for (int axis = 0; axis < PLACED_AXES; axis++)
		follows &= last->out[0]->place[axis].kind != PARTIAL;
	return follows && (joins_as_bias(f, step, node) || joins_as_activation(f, step, node));
}

// How often a node reads t.
static int reads_of(const Node *node, const Tensor *t)
{
	int reads = 0;
	for (int k = 0; k < node->ins; k++)
		reads += node->in[k] == t;
	return reads;
}

static bool read_outside(const Fusing *f, const Step *step, const Tensor *t)
{
	int inside = 0;
	for (int i = 0; i < step->nodes.count; i++)
		inside += reads_of(step->nodes.at[i], t);
	return f->uses[t->id] > inside;
}

// Whether all that an element-wise node reads and makes lies as t does.
static bool is_flat(const Node *node, const Tensor *t)
{
	bool flat = node->out[0]->type == t->type && same_layout(node->out[0], t);
	for (int i = 0; i < node->ins; i++)
		flat &= node->in[i]->type == t->type && same_layout(node->in[i], t);
	return flat;
}

// Whether an addition at the end of a block may be computed with the norm that opens the next one. It is rounded in between as where it is stored, so
// that a pipeline, in which the two may be on different stages, computes the same bits apart. For inference nobody else reads the last block's, and
// over tp what is gathered of the last norm goes other ways: that block would be unlike the others.
static bool crosses_blocks(const Plan *plan)
{
	return plan->stages == 1 && plan->mesh[AXIS_TP] == 1 && plan->graph->training;
}

// A kernel behind the element-wise step that makes its first operand, and nothing else that others read. Others do read the operand, so
// that it is stored.
static bool takes_along(const Fusing *f, const Step *step, const Node *node)
{
	const Node *last = step->nodes.at[step->nodes.count - 1];
	if (step->kind != STEP_ELEMENTWISE || !joins_in_front(node) || node->in[0] != last->out[0] || f->uses[last->out[0]->id] < 2)
		return false;
	if ((last->block != node->block && !crosses_blocks(f->plan)) || last->evaluation != node->evaluation || node->out[0]->type != f->plan->graph->real)
		return false;
	for (int i = 0; i < step->nodes.count; i++) {
		const Node *made = step->nodes.at[i];
		if (!is_flat(made, node->out[0]) || (made != last && read_outside(f, step, made->out[0])))
			return false;
	}
	return true;
}

// The step of the kernel from whose result, which nobody else reads, an element-wise node goes on; NULL: none. Whatever else it reads is
// made before that step, for it is computed there.
static Step *kernel_in_front(const Fusing *f, const Function *function, const Node *node)
{
	for (int i = function->steps.count - 1; i >= 0; i--) {
		Step *step = &function->steps.at[i];
		const Node *last = step->nodes.count ? step->nodes.at[step->nodes.count - 1] : NULL;
		if (!last || last->block != node->block || last->evaluation != node->evaluation)
			return NULL;
		bool reads = false;
		for (int k = 0; k < node->ins; k++)
			reads |= makes(step, root_of(node->in[k]));
		if (!reads)
			continue;
		const Tensor *made = last->out[0];
		bool alone = step->kind == STEP_KERNEL && joins_behind(step->nodes.at[0]) && reads_of(node, made) && f->uses[made->id] == 1;
		return alone && made->type == f->plan->graph->real && is_flat(node, made) ? step : NULL;
	}
	return NULL;
}

// What replicas exchange of parameters and gradients is packed and unpacked beside computation.
static bool is_packed_aside(const Node *node)
{
	bool packs = node->op == OP_PACK || node->op == OP_UNPACK;
	return packs && node->attributes.axis == AXIS_DP && (node->phase == PHASE_PROLOGUE || node->phase == PHASE_EPILOGUE);
}

static Stream stream_of(const Node *node)
{
	if (op_table[node->op].lowering != LOWER_COLLECTIVE && !is_packed_aside(node))
		return STREAM_COMPUTE;
	static const Stream streams[] = {[AXIS_DP] = STREAM_DP, [AXIS_TP] = STREAM_TP, [AXIS_PP] = STREAM_PP};
	return streams[node->attributes.axis];
}

static StepKind kind_of(const Node *node)
{
	static const StepKind kinds[] = {[LOWER_ELEMENTWISE] = STEP_ELEMENTWISE, [LOWER_GEMM] = STEP_GEMM, [LOWER_CONV] = STEP_CONV, [LOWER_ATTENTION] = STEP_ATTENTION, [LOWER_CHUNKS] = STEP_CHUNKS,
		[LOWER_KERNEL] = STEP_KERNEL, [LOWER_COPY] = STEP_COPY, [LOWER_COLLECTIVE] = STEP_COLLECTIVE};
	return kinds[op_table[node->op].lowering];
}

Step step_of_node(const Plan *plan, Node *node)
{
	Step step = {.kind = kind_of(node), .name = node->name, .block = node->block, .stream = stream_of(node), .accumulate = node->accumulate,
	             .when = node->evaluation ? WHEN_EVALUATING : WHEN_ALWAYS, .call = -1};
	list_add(plan->arena, &step.nodes, node);
	return step;
}

void add_step(const Plan *plan, Function *function, Node *node)
{
	Step step = step_of_node(plan, node);
	list_add(plan->arena, &function->steps, step);
}

void insert_step(const Plan *plan, Function *function, int index, Step step)
{
	list_add(plan->arena, &function->steps, step);
	for (int i = function->steps.count - 1; i > index; i--)
		function->steps.at[i] = function->steps.at[i - 1];
	function->steps.at[index] = step;
}

void remove_step(Function *function, int index)
{
	for (int i = index; i + 1 < function->steps.count; i++)
		function->steps.at[i] = function->steps.at[i + 1];
	function->steps.count--;
}

static void append_node(const Fusing *f, Function *function, Node *node)
{
	Lowering lowering = op_table[node->op].lowering;
	if (lowering == LOWER_NOTHING || lowering == LOWER_ALIAS)
		return;
	Step *last = function->steps.count ? &function->steps.at[function->steps.count - 1] : NULL, *taking = NULL;
	if (last && last->nodes.count && ((lowering == LOWER_ELEMENTWISE && joins_elementwise(last, node)) || joins_library_call(f, last, node) || takes_along(f, last, node)))
		taking = last;
	else if (lowering == LOWER_ELEMENTWISE)
		taking = kernel_in_front(f, function, node);
	if (!taking) {
		add_step(f->plan, function, node);
		return;
	}
	list_add(f->plan->arena, &taking->nodes, node);
	taking->name = node->name;
	if (taking->kind == STEP_ELEMENTWISE && lowering == LOWER_KERNEL)
		taking->kind = STEP_KERNEL;
}

// ---- what steps read and write

void add_access(const Plan *plan, Step *step, Tensor *t, bool write, int argument)
{
	Rows own = {plan->mesh[AXIS_TP], 0, 1, 0}, all = {0};
	add_rows(plan, step, t, part_inside(t) ? own : all, write, argument);
}

void add_rows(const Plan *plan, Step *step, Tensor *t, Rows rows, bool write, int argument)
{
	Access access = {.tensor = root_of(t), .rows = rows, .write = write, .argument = argument, .buffer = -1};
	for (int i = 0; i < step->accesses.count; i++) {
		Access *known = &step->accesses.at[i];
		if (known->tensor == access.tensor && same_rows(&known->rows, &rows) && known->argument == argument) {
			known->write |= write;
			return;
		}
	}
	list_add(plan->arena, &step->accesses, access);
}

// What a node reads as operand k: of a product that computes the rows of one device, only those. An all-gather writes the rows of others where
// its own ones lie there already.
static void read_operand(const Plan *plan, Step *step, const Node *node, int k)
{
	const Attributes *a = &node->attributes;
	if (node->op == OP_MATMUL && a->parts && k == 0)
		add_rows(plan, step, node->in[k], (Rows){(int)a->parts, a->part, 1, 0}, false, 0);
	else
		add_access(plan, step, node->in[k], writes_operand(node, k), 0);
}

static void write_result(const Plan *plan, Step *step, const Node *node, int k)
{
	bool inside = node->op == OP_ALL_GATHER && node->in[0]->inside == node->out[0];
	for (int rank = 1; inside && rank < plan->mesh[AXIS_TP]; rank++)
		add_rows(plan, step, node->out[k], (Rows){plan->mesh[AXIS_TP], rank, 1, 0}, true, 0);
	if (!inside)
		add_access(plan, step, node->out[k], true, 0);
}

// An update makes the working copy of its parameter anew.
static void find_accesses(const Fusing *f, const Role *role, Step *step)
{
	for (int i = 0; i < step->nodes.count; i++) {
		Node *node = step->nodes.at[i];
		Node *copy = is_update(node) ? working_copy(role, node->in[0]) : NULL;
		for (int k = 0; k < node->ins; k++)
			if (!makes(step, node->in[k]))
				read_operand(f->plan, step, node, k);
		for (int k = 0; k < node->outs; k++)
			if (step->nodes.count == 1 || (step->kind == STEP_KERNEL && k > 0) || read_outside(f, step, node->out[k]))
				write_result(f->plan, step, node, k);
		if (copy)
			add_access(f->plan, step, copy->out[0], true, 0);
	}
	for (int i = 0; i < step->messages.count; i++)
		add_access(f->plan, step, step->messages.at[i].transfer->tensor, !step->messages.at[i].send, step->messages.at[i].argument);
}

static void make_functions(Plan *plan, Role *role)
{
	static const char *const names[] = {"loaded", "begin_step", "prologue", "forward", "backward", "results", "update", "end_step"};
	for (int kind = FUNCTION_LOADED; kind <= FUNCTION_END; kind++) {
		Function function = {.kind = kind, .name = names[kind]};
		list_add(plan->arena, &role->functions, function);
	}
}

static bool joins_copy(const Plan *plan, const Step *last, const Step *step)
{
	enum { MOST = 8 }; // MP_COPIES of runtime/mp_copies.h
	if (last->kind != STEP_COPY || step->kind != STEP_COPY || last->when != step->when || last->nodes.count == MOST)
		return false;
	const Node *before = last->nodes.at[0], *node = step->nodes.at[0];
	return before->outs == node->outs && is_small_copy(plan, before) && is_small_copy(plan, node);
}

// Sums down the columns of tensors of the same extents, as gradients of a norm's weight and bias.
static bool joins_sums(const Plan *plan, const Step *last, const Step *step)
{
	enum { MOST = 4 }; // MP_ADDENDS of runtime/mp_addends.h
	if (last->kind != STEP_KERNEL || step->kind != STEP_KERNEL || last->when != step->when || last->nodes.count == MOST)
		return false;
	const Node *before = last->nodes.at[0], *node = step->nodes.at[0];
	if (before->op != OP_COLUMN_SUMS || node->op != OP_COLUMN_SUMS)
		return false;
	const Tensor *a = before->in[0], *b = node->in[0];
	bool alike = a->type == b->type && a->dims == b->dims && before->attributes.to == node->attributes.to && before->attributes.chunks == node->attributes.chunks;
	for (int d = 0; alike && d < a->dims; d++)
		alike = local_extent(plan, a, d) == local_extent(plan, b, d);
	return alike && last->accumulate == step->accumulate && last->stream == step->stream && last->block == step->block;
}

// Small copies in one direction that follow one another are one step, and so are sums of columns.
static void join_alike(const Plan *plan, Function *function)
{
	int kept = 0;
	for (int i = 0; i < function->steps.count; i++) {
		Step *last = kept ? &function->steps.at[kept - 1] : NULL;
		if (last && (joins_copy(plan, last, &function->steps.at[i]) || joins_sums(plan, last, &function->steps.at[i])))
			list_add(plan->arena, &last->nodes, function->steps.at[i].nodes.at[0]);
		else
			function->steps.at[kept++] = function->steps.at[i];
	}
	function->steps.count = kept;
}

void fuse_steps(Plan *plan)
{
	Fusing f = {plan, count_uses(plan)};
	find_in_place(plan, f.uses);
	for (int s = 0; s < plan->stages; s++) {
		Role *role = &plan->roles[s];
		make_functions(plan, role);
		for (int phase = PHASE_FORWARD; phase <= PHASE_BACKWARD; phase++) {
			Function *function = function_of(role, phase == PHASE_FORWARD ? FUNCTION_FORWARD : FUNCTION_BACKWARD);
			for (int i = 0; i < role->nodes[phase].count; i++)
				append_node(&f, function, role->nodes[phase].at[i]);
		}
		begin_sums(plan, function_of(role, FUNCTION_BACKWARD), f.uses);
		gather_before_use(plan, role);
	}
	f.uses = count_uses(plan);
	sequence_prologue(plan);
	sequence_epilogue(plan);
	for (int s = 0; s < plan->stages; s++) {
		for (int i = 0; i < plan->roles[s].functions.count; i++) {
			Function *function = &plan->roles[s].functions.at[i];
			join_alike(plan, function);
			for (int k = 0; k < function->steps.count; k++)
				find_accesses(&f, &plan->roles[s], &function->steps.at[k]);
		}
		begin_with_own_rows(plan, function_of(&plan->roles[s], FUNCTION_FORWARD));
		begin_with_own_rows(plan, function_of(&plan->roles[s], FUNCTION_BACKWARD));
		compute_in_pieces(plan, &plan->roles[s]);
		hide_communication(plan, function_of(&plan->roles[s], FUNCTION_BACKWARD));
		scatter_gradients(plan, &plan->roles[s]);
		make_buckets(plan, &plan->roles[s]);
	}
}
