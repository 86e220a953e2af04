// repeat.c: equal layers, found in the lists of steps, so that each is emitted once.
//
// The steps of one block after another form segments. Where neighbouring segments (or pairs, threes, fours of them) do
// the same on other buffers, they become a loop: one function with a layer number, called for each layer. "The
// same" is decided on what is emitted: kinds, ops, attributes, extents, streams; and one map must take every buffer of
// the first layer to the buffer that stands in its place in another. A buffer whose counterpart is itself
// is common to all layers; the others form families, which memory.h gives one accessor. Nothing is
// assumed of the model but what is found here, and a layer that differs in anything stays outside.
#include <string.h>

#include "families.h"
#include "fuse.h"

enum { MAX_PERIOD = 4 };  // blocks that repeat together

typedef struct {
	int first, steps, block;
} Segment;

typedef LIST(Segment) Segments;

typedef struct {
	const Plan *plan;
	Role *role;
	Function *function;
	Segments segments;
	int distance;           // how many layers lie between the two
	bool knows_step;
	unsigned layer_step;    // by how much the numbers of dropout rise from layer to layer
	int *map;               // by buffer of the first layer: its counterpart in the layer being compared, -1: none yet
} Repeating;

// The norm of all gradients belongs to no layer, nor do the updates together, nor what is reduced together behind all layers.
static int block_of(const Function *function, const Step *step)
{
	if (function->kind == FUNCTION_UPDATE && is_bucket(function, step))
		return -1;
	if (step->nodes.count && (step->nodes.at[0]->op == OP_SQUARED_NORMS || step->nodes.at[0]->op == OP_GRADIENT_NORM))
		return -1;
	if (step->nodes.count > 1 && is_update(step->nodes.at[0]))
		return -1;
	return step->nodes.count ? step->block : -1;
}

static void find_segments(Repeating *r)
{
	for (int i = 0; i < r->function->steps.count; i++) {
		int block = block_of(r->function, &r->function->steps.at[i]);
		Segment *last = r->segments.count ? &r->segments.at[r->segments.count - 1] : NULL;
		if (last && last->block == block && block >= 0) {
			last->steps++;
			continue;
		}
		Segment segment = {i, 1, block};
		list_add(r->plan->arena, &r->segments, segment);
	}
}

static bool same_buffer_shape(const Buffer *a, const Buffer *b)
{
	return a->whole == b->whole && a->bytes == b->bytes && (!a->whole || a->slots == b->slots);
}

// Whether tensor b of a layer can stand where a stands in the first.
static bool corresponds(Repeating *r, const Tensor *a, const Tensor *b)
{
	if (a->type != b->type || a->dims != b->dims || memcmp(a->shape, b->shape, (size_t)a->dims * sizeof *a->shape)
	    || memcmp(a->place, b->place, sizeof a->place))
		return false;
	int left = find_buffer(r->plan, r->role, a), right = find_buffer(r->plan, r->role, b);
	if (left < 0 || right < 0)
		return left == right; // inside of a fused step
	if (r->map[left] >= 0)
		return r->map[left] == right;
	r->map[left] = right;
	return same_buffer_shape(&r->role->buffers.at[left], &r->role->buffers.at[right]);
}

// Dropout of different layers has different numbers; evenly rising ones can be computed from the layer's.
static bool rises_evenly(Repeating *r, unsigned a, unsigned b)
{
	if (!a && !b)
		return true;
	if (!r->knows_step)
		r->layer_step = b - a;
	r->knows_step = true;
	return b - a == r->layer_step * (unsigned)r->distance;
}

static bool similar_nodes(Repeating *r, const Node *a, const Node *b)
{
	if (a->op != b->op || a->ins != b->ins || a->outs != b->outs || a->phase != b->phase || a->accumulate != b->accumulate
	    || !same_attributes(&a->attributes, &b->attributes) || !rises_evenly(r, a->attributes.layer, b->attributes.layer))
		return false;
	for (int i = 0; i < a->ins; i++)
		if (!corresponds(r, a->in[i], b->in[i]))
			return false;
	for (int i = 0; i < a->outs; i++)
		if (!corresponds(r, a->out[i], b->out[i]))
			return false;
	return true;
}

// Copies from and to the host are numbered.
static bool can_repeat(const Step *step)
{
	return step->kind != STEP_COPY && !step->messages.count;
}

static bool similar_steps(Repeating *r, const Step *a, const Step *b)
{
	if (a->kind != b->kind || a->stream != b->stream || a->when != b->when || a->accumulate != b->accumulate || a->parts != b->parts || a->part != b->part || a->pieces != b->pieces || a->piece != b->piece || a->nodes.count != b->nodes.count
	    || a->accesses.count != b->accesses.count || !can_repeat(a) || !can_repeat(b))
		return false;
	for (int i = 0; i < a->accesses.count; i++)
		if (!same_rows(&a->accesses.at[i].rows, &b->accesses.at[i].rows))
			return false;
	for (int i = 0; i < a->nodes.count; i++)
		if (!similar_nodes(r, a->nodes.at[i], b->nodes.at[i]))
			return false;
	return true;
}

static int steps_of(const Repeating *r, int segment, int period)
{
	int steps = 0;
	for (int i = segment; i < segment + period; i++)
		steps += r->segments.at[i].steps;
	return steps;
}

// Whether `period` segments from b on do what those from a on do; fills the map.
static bool similar_layers(Repeating *r, int a, int b, int period)
{
	if (b + period > r->segments.count)
		return false;
	for (int i = 0; i < period; i++)
		if (r->segments.at[a + i].block < 0 || r->segments.at[a + i].steps != r->segments.at[b + i].steps)
			return false;
	for (int i = 0; i < r->role->buffers.count; i++)
		r->map[i] = -1;
	int first = r->segments.at[a].first, other = r->segments.at[b].first;
	for (int i = 0; i < steps_of(r, a, period); i++)
		if (!similar_steps(r, &r->function->steps.at[first + i], &r->function->steps.at[other + i]))
			return false;
	return true;
}

// ---- families

static int family_for(Repeating *r, const Family *wanted)
{
	for (int i = 0; i < r->role->families.count; i++) {
		const Family *known = &r->role->families.at[i];
		if (known->count == wanted->count && !memcmp(known->buffers, wanted->buffers, (size_t)wanted->count * sizeof *wanted->buffers))
			return i;
	}
	list_add(r->plan->arena, &r->role->families, *wanted);
	return r->role->families.count - 1;
}

// counterparts: [layer][buffer], layers in the order in which they run.
static void make_families(Repeating *r, Loop *loop, int *const *counterparts)
{
	int n = r->role->buffers.count;
	loop->family_of = arena_alloc(r->plan->arena, (size_t)n * sizeof *loop->family_of);
	for (int b = 0; b < n; b++) {
		loop->family_of[b] = -1;
		bool varies = false;
		Family family = {.base = -1, .count = loop->count, .descending = loop->descending, .neighbour = -1, .buffers = arena_alloc(r->plan->arena, (size_t)loop->count * sizeof *family.buffers)};
		for (int k = 0; k < loop->count; k++) {
			family.buffers[loop->descending ? loop->count - 1 - k : k] = counterparts[k][b];
			varies |= counterparts[k][b] != b;
			if (counterparts[k][b] >= 0 && r->role->buffers.at[counterparts[k][b]].slots > family.slots)
				family.slots = r->role->buffers.at[counterparts[k][b]].slots;
		}
		if (counterparts[1][b] >= 0 && varies)
			loop->family_of[b] = family_for(r, &family);
	}
}

// The loop that begins at a segment with layers of `period` segments; count is 1 when nothing repeats.
static Loop measure_loop(Repeating *r, int segment, int period, int **counterparts)
{
	Loop loop = {.first = r->segments.at[segment].first, .count = 1};
	int n = r->role->buffers.count;
	r->knows_step = false;
	while (r->distance = loop.count, similar_layers(r, segment, segment + loop.count * period, period)) {
		counterparts[loop.count] = arena_alloc(r->plan->arena, (size_t)(n + 1) * sizeof **counterparts);
		memcpy(counterparts[loop.count++], r->map, (size_t)n * sizeof **counterparts);
	}
	loop.layer_step = r->layer_step;
	loop.steps = loop.count > 1 ? steps_of(r, segment, period) : 0;
	return loop;
}

// A buffer that layers have in common must be so in all of them.
static void add_loop(Repeating *r, int segment, int period, Loop loop, int **counterparts)
{
	int n = r->role->buffers.count;
	counterparts[0] = arena_alloc(r->plan->arena, (size_t)(n + 1) * sizeof **counterparts);
	for (int b = 0; b < n; b++)
		counterparts[0][b] = b;
	loop.descending = r->segments.at[segment + period].block < r->segments.at[segment].block;
	const Block *block = &r->plan->graph->blocks.at[r->segments.at[segment].block], *next = &r->plan->graph->blocks.at[r->segments.at[segment + period].block];
	const char *name = common_name(r->plan->arena, block->name, next->name);
	loop.name = name ? name : block->name;
	make_families(r, &loop, counterparts);
	for (int i = 0; i < loop.steps * loop.count; i++)
		r->function->steps.at[loop.first + i].same_as = loop.first + i % loop.steps;
	for (int i = loop.first; i < loop.first + loop.steps; i++) {
		Step *step = &r->function->steps.at[i];
		const char *shared = common_name(r->plan->arena, step->name, step[loop.steps].name);
		step->name = shared ? shared : step->name;
	}
	list_add(r->plan->arena, &r->function->loops, loop);
}

// The longest loop that begins at a segment, and its period; count is 1 when nothing repeats.
static Loop longest_loop(Repeating *r, int segment, int *period, int **counterparts)
{
	Loop best = {.count = 1};
	for (int p = 1; p <= MAX_PERIOD && segment + 2 * p <= r->segments.count; p++) {
		Loop loop = measure_loop(r, segment, p, counterparts);
		if (loop.count > 1 && loop.count * loop.steps > best.count * best.steps) {
			best = loop;
			*period = p;
		}
	}
	return best;
}

// What only the first layer begins with stays before the loop: its first norm, where each layer ends with the norm of the next one. Whether a
// loop begins behind it; the segment then does.
static bool begins_later(Repeating *r, int segment, int **counterparts)
{
	Segment *begin = &r->segments.at[segment];
	int period, extra = segment + 1 < r->segments.count ? begin->steps - begin[1].steps : 0;
	if (extra <= 0 || begin->block < 0)
		return false;
	Segment whole = *begin;
	begin->first += extra;
	begin->steps -= extra;
	if (longest_loop(r, segment, &period, counterparts).count > 1)
		return true;
	*begin = whole;
	return false;
}

static void find_loops(Repeating *r)
{
	int **counterparts = arena_alloc(r->plan->arena, (size_t)(r->segments.count + 1) * sizeof *counterparts);
	for (int segment = 0; segment < r->segments.count;) {
		int period = 1;
		Loop best = longest_loop(r, segment, &period, counterparts);
		if (best.count < 2) {
			segment += !begins_later(r, segment, counterparts);
			continue;
		}
		best = measure_loop(r, segment, period, counterparts);
		add_loop(r, segment, period, best, counterparts);
		segment += period * best.count;
	}
}

// The updates are one step. What they go through stands in families all the same, as if each parameter had a step of its own.
static void find_families_of_updates(const Repeating *r)
{
	Function apart = {.kind = FUNCTION_UPDATE, .name = r->function->name};
	Repeating own = {.plan = r->plan, .role = r->role, .function = &apart, .map = r->map};
	for (int i = 0; i < r->function->steps.count; i++) {
		const Step *step = &r->function->steps.at[i];
		for (int k = 0; k < step->nodes.count && is_update(step->nodes.at[0]); k++)
			add_step(r->plan, &apart, step->nodes.at[k]);
	}
	find_segments(&own);
	find_loops(&own);
}

void find_repeats(Plan *plan)
{
	for (int s = 0; s < plan->stages; s++) {
		Role *role = &plan->roles[s];
		int *map = arena_alloc(plan->arena, (size_t)(role->buffers.count + 1) * sizeof *map);
		for (int f = 0; f < role->functions.count; f++) {
			Repeating r = {.plan = plan, .role = role, .function = &role->functions.at[f], .map = map};
			for (int i = 0; i < r.function->steps.count; i++)
				r.function->steps.at[i].same_as = i;
			if (r.function->kind == FUNCTION_TRANSFER)
				continue;
			find_segments(&r);
			find_loops(&r);
			if (r.function->kind == FUNCTION_UPDATE)
				find_families_of_updates(&r);
		}
		number_layers(plan, role);
		finish_families(plan, role);
	}
}
