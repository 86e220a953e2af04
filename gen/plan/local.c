// local.c: what one device holds of a tensor, and where nodes live.
#include <string.h>

#include "plan.h"

static long ceil_div(long a, long b)
{
	return (a + b - 1) / b;
}

long local_extent(const Plan *plan, const Tensor *t, int dim)
{
	long extent = t->shape[dim];
	for (int axis = 0; axis < PLACED_AXES; axis++)
		if (t->place[axis].kind == SHARD && t->place[axis].dim == dim)
			extent = ceil_div(extent, plan->mesh[axis]);
	return extent;
}

long local_product(const Plan *plan, const Tensor *t, int from, int to)
{
	long n = 1;
	for (int i = from; i < to; i++)
		n *= local_extent(plan, t, i);
	return n;
}

long local_elements(const Plan *plan, const Tensor *t)
{
	return local_product(plan, t, 0, t->dims);
}

size_t local_bytes(const Plan *plan, const Tensor *t)
{
	return (size_t)local_elements(plan, t) * (t->in_halves ? type_size(t->type) / 2 : type_size(t->type));
}

Tensor *copied_tensor(const Node *copy)
{
	return copy->outs ? copy->out[0] : copy->in[0];
}

// A kernel reads the host's memory as fast as a copy engine does, and starts sooner; but multiprocessors are busy meanwhile.
bool is_small_copy(const Plan *plan, const Node *copy)
{
	enum { LARGE = 1 << 20 };
	const Tensor *t = copied_tensor(copy);
	size_t microbatches = t->place[AXIS_MICRO].kind == SHARD ? (size_t)plan->mesh[AXIS_MICRO] : 1;
	return local_bytes(plan, t) * microbatches <= LARGE;
}

void product_extents(const Plan *plan, const Node *matmul, int *m, int *n, int *k)
{
	const Tensor *a = matmul->in[0], *b = matmul->in[1];
	int first = matmul_rows(matmul), last = b->dims - 1;
	int rows = (int)local_product(plan, a, 0, first), columns = (int)local_product(plan, a, first, a->dims);
	Transpose transpose = matmul->attributes.transpose;
	if (matmul->attributes.parts)
		rows /= (int)matmul->attributes.parts;
	*m = transpose == MATMUL_TN ? columns : rows;
	*k = transpose == MATMUL_TN ? rows : columns;
	*n = (int)(transpose == MATMUL_NT ? local_product(plan, b, 0, last) : local_extent(plan, b, last));
}

bool is_padded(const Plan *plan, const Tensor *t, int *dim, Axis *axis)
{
	for (int a = 0; a < PLACED_AXES; a++)
		if (t->place[a].kind == SHARD && t->shape[t->place[a].dim] % plan->mesh[a]) {
			*dim = t->place[a].dim;
			*axis = a;
			return true;
		}
	return false;
}

// A reshape is its input's bytes, a collective in place its operand's, and so is a sum that is made in place. Rows that are gathered may
// be made where they are gathered.
Tensor *root_of(Tensor *t)
{
	for (;;) {
		const Node *node = t->producer;
		if (t->inside)
			t = t->inside;
		else if (op_table[node->op].lowering == LOWER_ALIAS || node->op == OP_CLEAR_PADDING || (node->attributes.in_place && t == node->out[0]))
			t = node->in[0];
		else if (adds_onto(node) && t == node->out[0])
			t = node->in[2];
		else
			return t;
	}
}

bool same_layout(const Tensor *a, const Tensor *b)
{
	return a->dims == b->dims && !memcmp(a->shape, b->shape, a->dims * sizeof *a->shape)
	    && !memcmp(a->place, b->place, sizeof a->place);
}

bool is_working_copy(const Node *node)
{
	return node->op == OP_CAST && node->phase == PHASE_PROLOGUE;
}

bool gathers_parameter(const Node *node)
{
	bool gathers = node->op == OP_ALL_GATHER || node->op == OP_UNPACK;
	return gathers && node->phase == PHASE_PROLOGUE && node->attributes.axis == AXIS_DP && parameter_of(node->in[0]);
}

Node *working_copy(const Role *role, const Tensor *parameter)
{
	for (int i = 0; i < role->nodes[PHASE_PROLOGUE].count; i++) {
		Node *node = role->nodes[PHASE_PROLOGUE].at[i];
		if (is_working_copy(node) && node->in[0] == parameter)
			return node;
	}
	return NULL;
}

Node *kernel_of(const Step *step)
{
	int i = 0;
	while (op_table[step->nodes.at[i]->op].lowering == LOWER_ELEMENTWISE)
		i++;
	return step->nodes.at[i];
}

int stage_of(const Plan *plan, const Node *node)
{
	return plan->stage_of[node->block];
}

int find_buffer(const Plan *plan, const Role *role, const Tensor *t)
{
	(void)plan;
	return role->buffer_of[root_of((Tensor *)t)->id];
}

int *count_uses(const Plan *plan)
{
	int *uses = arena_alloc(plan->arena, (size_t)plan->graph->tensors.count * sizeof *uses);
	for (int i = 0; i < plan->graph->nodes.count; i++)
		for (int k = 0; k < plan->graph->nodes.at[i]->ins; k++)
			uses[plan->graph->nodes.at[i]->in[k]->id]++;
	return uses;
}

void replace_nodes(Plan *plan, Node *const *nodes, int count)
{
	plan->graph->nodes.count = 0;
	for (int i = 0; i < count; i++) {
		nodes[i]->id = i;
		list_add(plan->arena, &plan->graph->nodes, nodes[i]);
	}
}
