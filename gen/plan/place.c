// place.c: gives every tensor a placement on every mesh axis and inserts the conversions.
//
// Nodes are visited in execution order. For each axis the op's rules are compared by the bytes that converting the
// inputs (and the result, where the spec or the primal fixes its placement) would move; the cheapest wins, ties go to
// fewer conversions, then of less, and then to the earlier rule. Axes are independent of each other. A cotangent takes its primal's
// placement, so backward communication is the mirror image of the forward one.
//
// Micro-batches are an axis in time: nothing moves along it, so a sum over the batch stays Partial until the
// epilogue, where an accumulator makes it whole.
#include <float.h>
#include <string.h>

#include "place.h"

static const char *const axis_text[] = {"microbatches", "dp", "tp"};

static bool once_a_step(const Node *node)
{
	return node->phase == PHASE_PROLOGUE || node->phase == PHASE_EPILOGUE;
}

// ---- cost of conversions

// Bytes of t on one device if it were whole on `axis`.
static double whole_bytes(const Placing *p, const Tensor *t, Axis axis)
{
	Tensor whole = *t;
	whole.place[axis] = (Placement){REPLICATE, 0};
	return (double)local_bytes(p->plan, &whole);
}

// Bytes that each device sends; DBL_MAX when there is no such conversion.
static double conversion_cost(const Placing *p, const Tensor *t, Axis axis, Placement to)
{
	Placement from = t->place[axis];
	double n = p->plan->mesh[axis];
	if (same_placement(from, to) || from.kind == REPLICATE)
		return to.kind == PARTIAL && from.kind == REPLICATE && axis != AXIS_MICRO ? DBL_MAX : 0;
	if (axis == AXIS_MICRO || to.kind == PARTIAL)
		return DBL_MAX;
	double share = whole_bytes(p, t, axis) * (n - 1) / n;
	if (from.kind == SHARD)
		return to.kind == SHARD ? share / n : share;
	return to.kind == REPLICATE ? 2 * share : share;
}

// A sum is scattered only where another operand already lies so: otherwise it would have to be gathered again.
static bool scatter_is_wanted(const Node *node, const Rule *rule, Axis axis, int operand, bool result_is_fixed)
{
	if (result_is_fixed || node->in[operand]->place[axis].kind != PARTIAL || rule->in[operand].kind != SHARD)
		return true;
	for (int i = 0; i < node->ins; i++)
		if (i != operand && rule->in[i].kind == SHARD && same_placement(node->in[i]->place[axis], rule->in[i]))
			return true;
	return false;
}

// An update changes its parameter and state where they are stored: it runs in their placement.
static bool stays(const Node *node, int operand)
{
	return writes_operand(node, operand) && op_table[node->in[operand]->producer->op].lowering == LOWER_NOTHING;
}

// Where the result has to lie; false: anywhere.
static bool fixed_result(const Node *node, Axis axis, Placement *to)
{
	if (!node->outs)
		return false;
	const Tensor *t = node->out[0];
	if (t->pinned[axis])
		*to = t->place[axis];
	else if (t->primal && (axis != AXIS_MICRO || t->primal->place[axis].kind == SHARD))
		*to = t->primal->place[axis].kind == PARTIAL ? (Placement){REPLICATE, 0} : t->primal->place[axis];
	else
		return false;
	return true;
}

// A reshape keeps shards only where both sides divide; a grouped convolution splits between groups alone.
static bool divides(const Placing *p, const Node *node, const Rule *rule, Axis axis)
{
	if (op_table[node->op].lowering == LOWER_CONV && node->attributes.window.groups > 1 && rule->in[0].kind == SHARD && rule->in[0].dim == 3)
		return node->attributes.window.groups % p->plan->mesh[axis] == 0;
	if (node->op != OP_RESHAPE || rule->in[0].kind != SHARD)
		return true;
	long x = node->in[0]->shape[rule->in[0].dim], y = node->out[0]->shape[rule->out[0].dim];
	return x == y || (x % p->plan->mesh[axis] == 0 && y % p->plan->mesh[axis] == 0);
}

// A group of heads is never cut: nothing would pad it right.
static void check_heads(const Placing *p, const Node *node, Axis axis)
{
	const Tensor *qkv = node->in[node->op == OP_ATTENTION_GRAD];
	int n = p->plan->mesh[axis];
	if (op_table[node->op].lowering != LOWER_ATTENTION || !same_placement(qkv->place[axis], (Placement){SHARD, 2}) || qkv->shape[2] % n == 0)
		return;
	Text works = {.arena = p->plan->arena};
	for (int k = 1; k <= qkv->shape[2]; k++)
		if (qkv->shape[2] % k == 0)
			text_add(&works, "%s%d", works.length ? ", " : "", k);
	fail_at(node->location, "attention: the %ld groups of heads of %s do not divide over %s=%d\n%s that work: %s", qkv->shape[2],
	        qkv->name, axis_text[axis], n, axis_text[axis], works.at);
}

// A dim is shared out by one axis, or by micro-batches and dp together (whose product divides the batch): equal
// shards of shards would need padding inside of padding.
static bool taken(Placement wanted, Axis axis, const Placement *places)
{
	for (int other = 0; other < (int)axis && wanted.kind == SHARD && axis > AXIS_DP; other++)
		if (places[other].kind == SHARD && places[other].dim == wanted.dim)
			return true;
	return false;
}

// Whether t would be shared out on a dim that a later axis shares out already.
static bool taken_later(const Tensor *t, Placement wanted, Axis axis)
{
	if (wanted.kind != SHARD || same_placement(t->place[axis], wanted))
		return false;
	for (int other = axis + 1 > AXIS_TP ? axis + 1 : AXIS_TP; other < PLACED_AXES; other++)
		if (same_placement(t->place[other], wanted))
			return true;
	return false;
}

// Where each output of a node lies on each axis.
typedef Placement Results[MAX_OUTPUTS][PLACED_AXES];

// results: on the axes before this one.
static bool dims_are_free(const Node *node, const Rule *rule, Axis axis, const Results results)
{
	for (int i = 0; i < node->ins; i++)
		if (taken(rule->in[i], axis, node->in[i]->place) || taken_later(node->in[i], rule->in[i], axis))
			return false;
	for (int i = 0; i < node->outs; i++)
		if (taken(rule->out[i], axis, results[i]))
			return false;
	return true;
}

// What the spec splits over tp was too large for one device, or would waste the time of all but one: a parameter and its
// gradient are used as they lie while any rule allows it. More than any bytes.
static const double move_parameter = 1e24;

static bool is_split(const Placing *p, const Tensor *parameter, Axis axis)
{
	return axis == AXIS_TP && p->plan->mesh[axis] > 1 && parameter && parameter->place[axis].kind == SHARD;
}

static double moved_parameters(const Placing *p, const Node *node, const Rule *rule, Axis axis)
{
	double bytes = 0;
	for (int i = 0; i < node->ins; i++)
		if (parameter_of(node->in[i]) && is_split(p, node->in[i], axis) && !same_placement(node->in[i]->place[axis], rule->in[i]))
			bytes += move_parameter;
	const Tensor *parameter = node->outs ? node->out[0]->parameter : NULL;
	if (is_split(p, parameter, axis) && !same_placement(parameter->place[axis], rule->out[0]))
		bytes += move_parameter;
	return bytes;
}

typedef struct {
	double bytes;           // that a device sends
	int conversions;
	double converted;       // bytes of what is converted
} Price;

static bool is_cheaper(const Price *a, const Price *b)
{
	if (a->bytes != b->bytes)
		return a->bytes < b->bytes;
	return a->conversions != b->conversions ? a->conversions < b->conversions : a->converted < b->converted;
}

// Whether what a rule gives of a parameter's gradient lies elsewhere than the parameter.
static bool is_left_elsewhere(const Node *node, const Rule *rule, Axis axis)
{
	const Tensor *parameter = node->outs ? node->out[0]->parameter : NULL;
	return axis != AXIS_MICRO && !op_table[node->op].flops && parameter && !same_placement(rule->out[0], parameter->place[axis]);
}

// Bytes that a device sends once a step to bring what a rule gives of a parameter's gradient to where the parameter lies. Where nothing but
// bytes is at stake: with arithmetic to do, each device would do that of all. Half of them, because what is gathered instead takes memory,
// and is added up on each device.
static double bytes_left(const Placing *p, const Node *node, const Rule *rule, Axis axis)
{
	if (!is_left_elsewhere(node, rule, axis))
		return 0;
	Tensor result = *node->out[0];
	result.place[axis] = rule->out[0];
	double cost = conversion_cost(p, &result, axis, result.parameter->place[axis]);
	return cost == DBL_MAX ? 0 : cost / 2;
}

static bool price_rule(const Placing *p, const Node *node, const Rule *rule, Axis axis, Price *price)
{
	Placement to;
	bool fixed = fixed_result(node, axis, &to);
	*price = (Price){.bytes = moved_parameters(p, node, rule, axis) + bytes_left(p, node, rule, axis) / p->plan->mesh[AXIS_MICRO],
	                 .conversions = is_left_elsewhere(node, rule, axis)};
	for (int i = 0; i < node->ins; i++) {
		double cost = conversion_cost(p, node->in[i], axis, rule->in[i]);
		bool converts = !same_placement(node->in[i]->place[axis], rule->in[i]);
		if (cost == DBL_MAX || !scatter_is_wanted(node, rule, axis, i, fixed) || (converts && stays(node, i)))
			return false;
		price->bytes += cost;
		price->conversions += converts;
		price->converted += converts ? whole_bytes(p, node->in[i], axis) : 0;
	}
	if (!divides(p, node, rule, axis))
		return false;
	if (fixed) {
		Tensor result = *node->out[0];
		result.place[axis] = rule->out[0];
		double cost = conversion_cost(p, &result, axis, to);
		if (cost == DBL_MAX)
			return false;
		price->bytes += cost;
		bool converts = !same_placement(rule->out[0], to);
		price->conversions += converts;
		price->converted += converts ? whole_bytes(p, &result, axis) : 0;
	}
	return true;
}

static bool is_for(const Rule *rule, Axis axis)
{
	static const Axis axes[] = {[ON_MICRO] = AXIS_MICRO, [ON_DP] = AXIS_DP, [ON_TP] = AXIS_TP};
	if (rule->on == ON_SAMPLES)
		return axis == AXIS_MICRO || axis == AXIS_DP;
	return rule->on == ON_ANY_AXIS || axes[rule->on] == axis;
}

static const Rule *choose_rule(const Placing *p, const Node *node, const Rules *rules, Axis axis, const Results results)
{
	const Rule *best = NULL;
	Price least = {0}, price;
	for (int i = 0; i < rules->count; i++) {
		if (!is_for(&rules->at[i], axis) || !dims_are_free(node, &rules->at[i], axis, results) || !price_rule(p, node, &rules->at[i], axis, &price))
			continue;
		if (!best || is_cheaper(&price, &least)) {
			best = &rules->at[i];
			least = price;
		}
	}
	return best;
}

// ---- conversions, each once

// Whether a consumer can read what `node` makes without sending it against the direction of its phase.
static bool can_read(const Node *node, const Node *consumer)
{
	if (node->phase == PHASE_FORWARD && !once_a_step(consumer))
		return node->block <= consumer->block;
	if (node->phase == PHASE_BACKWARD && !once_a_step(consumer))
		return node->block >= consumer->block;
	return node->block == consumer->block;
}

static int first_conversion(const Placing *p, const Tensor *t)
{
	return t->id < p->first_of.count ? p->first_of.at[t->id] : 0;
}

static void count_read(Placing *p, const Tensor *t)
{
	while (p->reads.count <= t->id)
		list_add(p->graph->arena, &p->reads, 0);
	p->reads.at[t->id]++;
}

static void remember_conversion(Placing *p, const Tensor *t, Node *conversion)
{
	Arena *arena = p->graph->arena;
	if (p->counts_reads && (conversion->phase == PHASE_FORWARD || conversion->phase == PHASE_BACKWARD))
		count_read(p, conversion->in[0]);
	list_add(arena, &p->conversions, conversion);
	list_add(arena, &p->next_of, 0);
	while (p->first_of.count <= t->id)
		list_add(arena, &p->first_of, 0);
	int *link = &p->first_of.at[t->id];
	while (*link)
		link = &p->next_of.at[*link - 1];
	*link = p->conversions.count;
}

// The conversion's result, when the same was done before where this consumer can read it.
static Tensor *converted_before(const Placing *p, const Tensor *t, Axis axis, Placement to, const Node *consumer)
{
	Tensor *origin = t->producer->attributes.converts; // t is itself a conversion of what is wanted
	if (origin && t->producer->attributes.axis == axis && same_placement(origin->place[axis], to) && can_read(origin->producer, consumer))
		return origin;
	for (int i = first_conversion(p, t); i; i = p->next_of.at[i - 1]) {
		Node *node = p->conversions.at[i - 1];
		Tensor *result = node->out[0];
		if (node->attributes.converts == t && node->attributes.axis == axis && same_placement(result->place[axis], to) && can_read(node, consumer)) {
			node->evaluation &= consumer->evaluation;
			return result;
		}
	}
	return NULL;
}

// Once a step where it can be, but what belongs to samples is converted micro-batch by micro-batch.
static Phase phase_of_conversion(const Tensor *t, Axis axis, const Node *consumer)
{
	bool samples = t->place[AXIS_MICRO].kind == SHARD;
	if (t->producer->phase == PHASE_PROLOGUE && t->place[AXIS_MICRO].kind == REPLICATE && axis != AXIS_MICRO)
		return PHASE_PROLOGUE;
	return samples && consumer->phase == PHASE_EPILOGUE ? t->producer->phase : consumer->phase;
}

static Tensor *convert_once(Placing *p, Tensor *t, Axis axis, Placement to, const Node *consumer)
{
	if (same_placement(t->place[axis], to))
		return t;
	Tensor *before = converted_before(p, t, axis, to, consumer);
	if (before)
		return before;
	Tensor *result = insert_conversion(p, t, axis, to, consumer, phase_of_conversion(t, axis, consumer));
	result->producer->attributes.converts = t;
	remember_conversion(p, t, result->producer);
	return result;
}

// ---- accumulators

// Reads of t within the micro-batch phases, whose nodes are all placed when the epilogue asks.
static int uses(Placing *p, const Tensor *t)
{
	for (int phase = PHASE_FORWARD; phase <= PHASE_BACKWARD && !p->counts_reads; phase++)
		for (int i = 0; i < p->phases[phase].count; i++)
			for (int k = 0; k < p->phases[phase].at[i]->ins; k++)
				count_read(p, p->phases[phase].at[i]->in[k]);
	p->counts_reads = true;
	return t->id < p->reads.count ? p->reads.at[t->id] : 0;
}

static void insert_after(Placing *p, Nodes *nodes, const Node *before, Node *node)
{
	list_add(p->graph->arena, nodes, node);
	int i = nodes->count - 1;
	for (; nodes->at[i - 1] != before; i--)
		nodes->at[i] = nodes->at[i - 1];
	nodes->at[i] = node;
}

// A tensor of the micro-batch phases as the epilogue reads it: summed over the micro-batches where it is Partial.
static Tensor *accumulated(Placing *p, Tensor *t)
{
	Node *producer = t->producer;
	if (once_a_step(producer) || t->place[AXIS_MICRO].kind != PARTIAL)
		return t;
	for (int i = first_conversion(p, t); i; i = p->next_of.at[i - 1])
		if (p->conversions.at[i - 1]->op == OP_ACCUMULATE)
			return p->conversions.at[i - 1]->out[0];
	bool sums_itself = op_table[producer->op].lowering == LOWER_GEMM || producer->op == OP_CONV2D_WEIGHT_GRAD || producer->op == OP_SUM || producer->op == OP_COLUMN_SUMS
	    || producer->op == OP_EMBEDDING_GRAD || producer->op == OP_LINEAR_CROSS_ENTROPY;
	if (sums_itself && !uses(p, t)) {
		producer->accumulate = true;
		t->place[AXIS_MICRO] = (Placement){REPLICATE, 0};
		return t;
	}
	Tensor *total = append_conversion(p, OP_ACCUMULATE, "total", t, AXIS_MICRO, 0, producer, producer->phase);
	Nodes *nodes = &p->phases[producer->phase];
	nodes->count--;
	insert_after(p, nodes, producer, total->producer);
	total->place[AXIS_MICRO] = (Placement){REPLICATE, 0};
	total->producer->accumulate = true;
	remember_conversion(p, t, total->producer);
	return total;
}

// ---- padding

// Whether the op gives zero where its operands' padding is zero.
static bool keeps_zero(const Node *node, int dim)
{
	switch (node->op) {
	case OP_DIV: case OP_EXPAND: case OP_CONSTANT: case OP_SOFTMAX: case OP_CROSS_ENTROPY: case OP_CROSS_ENTROPY_AND_GRAD: case OP_CORRECT:
	case OP_CROSS_ENTROPY_OF_SUMS: case OP_CORRECT_OF_BEST:
	case OP_SIGMOID: case OP_LAYER_NORM:
		return false;
	case OP_CROSS_ENTROPY_GRAD:
		return node->in[3]->dims || dim == node->out[0]->dims - 1; // a slope of each row is zero there
	case OP_ADD: case OP_SUB:
		for (int i = 0; i < node->ins; i++)
			if (dim < node->out[0]->dims - node->in[i]->dims)
				return false; // an operand without that dim is added everywhere
		return true;
	default:
		return true;
	}
}

static void clear_padding(Placing *p, Node *node)
{
	int dim;
	Axis axis;
	for (int i = 0; i < node->outs; i++) {
		Tensor *t = node->out[i];
		if (op_table[node->op].lowering == LOWER_NOTHING || op_table[node->op].lowering == LOWER_COLLECTIVE
		    || !is_padded(p->plan, t, &dim, &axis) || keeps_zero(node, dim))
			continue;
		Tensor *clear = append_conversion(p, OP_CLEAR_PADDING, "clear_padding", t, axis, dim, node, node->phase);
		p->latest[t->id] = clear;
	}
}

// ---- one node

_Noreturn static void no_rule(const Placing *p, const Node *node, Axis axis)
{
	if (axis == AXIS_MICRO)
		fail_at(node->location, "%s needs a sum over the batch that is not known before every micro-batch has run\n"
		        "use microbatches = 1, or keep the loss linear in its sums over the batch", op_name(node->op));
	fail_at(node->location, "%s cannot be placed on %s=%d as the spec asks", op_name(node->op), axis_text[axis], p->plan->mesh[axis]);
}

// Nothing says where what is inserted by an expansion lies. Whole, it would be cut at once by what reads it with a tensor
// that is shared out, so it lies as that tensor does.
static void place_like_neighbour(const Placing *p, Node *expansion)
{
	Tensor *t = expansion->out[0];
	for (int i = expansion->id + 1; i < p->all.count; i++) {
		const Node *reader = p->all.at[i];
		int other = reader->ins == 2 && reader->in[0] == t ? 1 : reader->ins == 2 && reader->in[1] == t ? 0 : -1;
		if (other < 0)
			continue;
		Tensor *neighbour = reader->in[other];
		while (neighbour->id < p->latest_count && p->latest[neighbour->id])
			neighbour = p->latest[neighbour->id];
		bool is_converted = neighbour != reader->in[other]; // by a node that was added behind all others
		bool is_placed = is_converted || neighbour->producer->phase < reader->phase || neighbour->producer->id < expansion->id;
		for (int axis = 0; axis < PLACED_AXES && is_placed && neighbour->dims == t->dims; axis++)
			if (!t->pinned[axis] && neighbour->place[axis].kind == SHARD) {
				t->pinned[axis] = true;
				t->place[axis] = neighbour->place[axis];
			}
		return;
	}
}

// A gradient may lie over tp by the dim that replicas share out of its parameter (zero.c): it is brought to where that lies over tp first.
static void make_way(Placing *p, Node *node)
{
	const Parameter *parameter = is_update(node) ? parameter_of(node->in[0]) : NULL;
	if (!parameter || !parameter->in_parts || p->plan->mesh[AXIS_TP] == 1)
		return;
	if (same_placement(node->in[1]->place[AXIS_TP], node->in[0]->place[AXIS_DP]))
		node->in[1] = convert_once(p, node->in[1], AXIS_TP, node->in[0]->place[AXIS_TP], node);
}

void place_node(Placing *p, Node *node)
{
	for (int i = 0; i < node->ins; i++) {
		Tensor *latest = node->in[i];
		while (latest->id < p->latest_count && p->latest[latest->id] && !stays(node, i))
			latest = p->latest[latest->id];
		node->in[i] = node->phase == PHASE_EPILOGUE ? accumulated(p, latest) : latest;
	}
	make_way(p, node);
	Node *local = split_classes(p, node);
	if (local)
		place_node(p, local);
	if (node->op == OP_EXPAND && node->phase == PHASE_FORWARD)
		place_like_neighbour(p, node);
	Results results = {0};
	bool has_rules = false;
	for (int axis = 0; axis < PLACED_AXES; axis++) {
		Rules rules = {0};
		op_table[node->op].placement(node, &rules);
		has_rules |= rules.count > 0;
		if (!rules.count || p->plan->mesh[axis] == 1 || (axis == AXIS_MICRO && once_a_step(node)))
			continue;
		check_heads(p, node, axis);
		const Rule *rule = choose_rule(p, node, &rules, axis, results);
		if (!rule)
			no_rule(p, node, axis);
		for (int i = 0; i < node->ins; i++)
			node->in[i] = convert_once(p, node->in[i], axis, rule->in[i], node);
		for (int i = 0; i < node->outs; i++)
			results[i][axis] = rule->out[i];
	}
	list_add(p->graph->arena, &p->phases[node->phase], node);
	if (!has_rules || !node->outs)
		return;
	Placement fixed[PLACED_AXES];
	bool is_fixed[PLACED_AXES];
	for (int axis = 0; axis < PLACED_AXES; axis++)
		is_fixed[axis] = p->plan->mesh[axis] > 1 && fixed_result(node, axis, &fixed[axis]);
	for (int i = 0; i < node->outs; i++)
		memcpy(node->out[i]->place, results[i], sizeof results[i]);
	Tensor *t = node->out[0];
	for (int axis = 0; axis < PLACED_AXES; axis++)
		if (is_fixed[axis])
			t = convert_once(p, t, axis, fixed[axis], node);
	if (t != node->out[0])
		p->latest[node->out[0]->id] = t;
	clear_padding(p, node);
}

// ---- checks of the mesh against the graph

static void check_batch(const Plan *plan)
{
	long batch = plan->graph->batch;
	int m = plan->mesh[AXIS_MICRO], dp = plan->mesh[AXIS_DP];
	if (batch % ((long)m * dp) == 0)
		return;
	Text works = {.arena = plan->arena};
	for (int k = 1; k <= batch && works.length < 60; k++)
		if (batch % ((long)k * dp) == 0)
			text_add(&works, "%s%d", works.length ? ", " : "", k);
	if (!works.length)
		fail_at(plan->location, "a batch of %ld samples does not divide over dp=%d: use a batch that is a multiple of %d", batch, dp, dp);
	fail_at(plan->location, "a batch of %ld samples does not divide into dp=%d times microbatches=%d\nmicrobatches that work with this batch and dp: %s",
	     batch, dp, m, works.at);
}

static void check_axes(const Plan *plan)
{
	for (int axis = AXIS_DP; axis < PLACED_AXES; axis++) {
		bool shards = plan->mesh[axis] == 1;
		for (int i = 0; i < plan->graph->nodes.count; i++) {
			const Node *node = plan->graph->nodes.at[i];
			for (int k = 0; k < node->outs; k++)
				shards |= node->out[k]->place[axis].kind == SHARD;
		}
		if (!shards)
			fail_at(plan->location, "%s=%d shards nothing in this model: every device of the axis would do the same work\n%s",
			     axis_text[axis], plan->mesh[axis],
			     axis == AXIS_TP ? "annotate layers, for example nn.linear(name, x, n, { shard = \"column\" }), or use tp=1"
			                     : "the spec has no input with samples; use dp=1");
	}
}

// Parameters and inputs come placed; on axes of size 1 everything is replicated.
static void place_leaves(Plan *plan)
{
	for (int i = 0; i < plan->graph->tensors.count; i++)
		for (int axis = 0; axis < PLACED_AXES; axis++) {
			Tensor *t = plan->graph->tensors.at[i];
			if (plan->mesh[axis] == 1)
				t->place[axis] = (Placement){REPLICATE, 0};
			else if (t->place[axis].kind == SHARD)
				assert(t->place[axis].dim < t->dims);
		}
}

void place_tensors(Plan *plan)
{
	Graph *graph = plan->graph;
	Placing p = {.plan = plan, .graph = graph, .latest_count = graph->tensors.count};
	p.latest = arena_alloc(plan->arena, (size_t)(graph->tensors.count + 1) * sizeof *p.latest);
	check_batch(plan);
	place_leaves(plan);
	for (int i = 0; i < graph->nodes.count; i++)
		list_add(plan->arena, &p.all, graph->nodes.at[i]);
	for (int phase = 0; phase < 4; phase++) {
		for (int i = 0; i < p.all.count; i++)
			if ((int)p.all.at[i]->phase == phase)
				place_node(&p, p.all.at[i]);
		if (phase == PHASE_PROLOGUE && plan->zero)
			gather_stored(&p);
	}
	Nodes all = {0};
	for (int phase = 0; phase < 4; phase++)
		for (int i = 0; i < p.phases[phase].count; i++)
			list_add(plan->arena, &all, p.phases[phase].at[i]);
	replace_nodes(plan, all.at, all.count);
	check_axes(plan);
}
