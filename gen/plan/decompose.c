// decompose.c: matrix products whose results are added up over tp and scattered, taken apart so that their parts travel while others
// are computed.
//
// Of such a sum a device needs its own rows alone. So it computes the rows of the device behind it first, sends them, and goes on
// to those of the one behind that, its own rows last; meanwhile n - 1 parts of its own rows come in from the others. They
// are added element by element, by the kernel that adds a bias or a residual anyway. The reduce-scatter in the place of all this would begin
// only when the whole product is there. In the backward pass gradients of weights hide it (order.c); so only the
// forward pass is taken apart, and only where the predicted time falls.
#include <string.h>

#include "cost.h"
#include "place.h"

// Seconds of the product and its reduce-scatter one after the other.
static double seconds_whole(const Plan *plan, const Node *product, const Node *scatter)
{
	return node_seconds(plan, product) + node_seconds(plan, scatter);
}

// Seconds of n parts, n - 1 of which are sent one after another as soon as they are there, and of what adding them reads.
static double seconds_apart(const Plan *plan, const Node *product, const Node *scatter, int n)
{
	double part = part_seconds(plan, node_seconds(plan, product), n), bytes = (double)local_bytes(plan, scatter->out[0]);
	double sent = 0;
	for (int k = 1; k < n; k++)
		sent = (sent > k * part ? sent : k * part) + link_seconds(plan, bytes);
	return (sent > n * part ? sent : n * part) + (n - 1) * bytes / plan->device->memory;
}

// The product whose result only this reduce-scatter reads, in parts of whole rows; NULL: there is none.
static Node *scattered_product(const Plan *plan, const Node *scatter, const int *uses)
{
	const Tensor *sum = scatter->in[0];
	Node *product = sum->producer;
	bool rows = product->op == OP_MATMUL && product->attributes.transpose != MATMUL_TN && scatter->attributes.dim == 0 && matmul_rows(product) > 0;
	bool alone = uses[sum->id] == 1 && !product->accumulate && product->block == scatter->block && product->phase == PHASE_FORWARD;
	int n = plan->mesh[scatter->attributes.axis];
	if (!rows || !alone || scatter->phase != PHASE_FORWARD || scatter->attributes.axis != AXIS_TP || local_extent(plan, sum, 0) % n)
		return NULL;
	return seconds_apart(plan, product, scatter, n) < seconds_whole(plan, product, scatter) ? product : NULL;
}

typedef struct {
	Plan *plan;
	Nodes nodes;            // the new list
} Decomposing;

static Node *append(Decomposing *d, Node *node)
{
	list_add(d->plan->arena, &d->nodes, node);
	return node;
}

// The rows of the k-th device behind this one; 0: its own.
static Tensor *add_part(Decomposing *d, const Node *product, const Node *scatter, int k)
{
	int n = d->plan->mesh[AXIS_TP];
	Node *part = append(d, copy_node(d->plan->graph, product, k ? arena_printf(d->plan->arena, "rows_%d", k) : "own_rows"));
	part->attributes.parts = n;
	part->attributes.part = k;
	memcpy(part->out[0]->place, scatter->out[0]->place, sizeof part->out[0]->place);
	return part->out[0];
}

static Tensor *add_shift(Decomposing *d, Tensor *rows, const Node *scatter, int k)
{
	Node *shift = append(d, copy_node(d->plan->graph, scatter, arena_printf(d->plan->arena, "shift_%d", k)));
	shift->op = OP_SHIFT;
	shift->in[0] = rows;
	shift->attributes.part = k;
	return shift->out[0];
}

// The sum of two; the last one is what the reduce-scatter gave.
static Tensor *add_sum(Decomposing *d, Tensor *a, Tensor *b, const Node *scatter, bool last)
{
	Node *sum = append(d, copy_node(d->plan->graph, scatter, "sum"));
	sum->op = OP_ADD;
	sum->attributes = (Attributes){0};
	sum->in[0] = a;
	sum->in[1] = b;
	sum->ins = 2;
	if (last) {
		sum->out[0] = scatter->out[0];
		sum->out[0]->producer = sum;
	}
	return sum->out[0];
}

static void take_apart(Decomposing *d, const Node *product, const Node *scatter)
{
	int n = d->plan->mesh[AXIS_TP];
	Tensor **arrived = arena_alloc(d->plan->arena, (size_t)n * sizeof *arrived);
	for (int k = 1; k < n; k++)
		arrived[k] = add_shift(d, add_part(d, product, scatter, k), scatter, k);
	Tensor *sum = add_part(d, product, scatter, 0);
	for (int k = 1; k < n; k++)
		sum = add_sum(d, sum, arrived[k], scatter, k == n - 1);
}

void decompose_products(Plan *plan)
{
	Graph *graph = plan->graph;
	Decomposing d = {.plan = plan};
	int count = graph->nodes.count, *uses = count_uses(plan);
	Node **apart = arena_alloc(plan->arena, (size_t)(count + 1) * sizeof *apart); // by the reduce-scatter's id: its product
	bool *dropped = arena_alloc(plan->arena, (size_t)count + 1);
	for (int i = 0; i < count; i++)
		if (graph->nodes.at[i]->op == OP_REDUCE_SCATTER && (apart[i] = scattered_product(plan, graph->nodes.at[i], uses)))
			dropped[apart[i]->id] = true;
	for (int i = 0; i < count; i++) {
		if (apart[i])
			take_apart(&d, apart[i], graph->nodes.at[i]);
		else if (!dropped[i])
			append(&d, graph->nodes.at[i]);
	}
	replace_nodes(plan, d.nodes.at, d.nodes.count);
}
