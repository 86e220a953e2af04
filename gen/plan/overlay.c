// overlay.c: gradients that lie where activations were.
//
// In a step of one micro-batch the backward pass uses up the activations, from the last to the first, while it makes the gradients. So
// two stacks share their bytes: activations lie in the order in which they are used up, the last one at the bottom; gradients from the
// top down in the order in which they are made, as low as leaves each above every activation that is still to be used. The
// two then take little more than the activations alone. With several micro-batches gradients live through all of them, stages
// of a pipeline send and receive meanwhile, and what the side stream uses may be in use all through the step: nothing is shared then.
#include <stdlib.h>

#include "fuse.h"
#include "overlay.h"

typedef LIST(Buffer *) Buffers;

// Gradients that are reduced together, which lie side by side, or one.
typedef struct {
	Buffers members;
	size_t bytes;
	int born;               // when the first of them is made
} Unit;

typedef LIST(Unit) Units;

bool may_share(const Plan *plan, const Role *role)
{
	bool beside = false;
	for (int f = 0; f < role->functions.count; f++)
		for (int i = 0; i < role->functions.at[f].steps.count; i++)
			beside |= role->functions.at[f].steps.at[i].stream == STREAM_SIDE;
	return plan->graph->training && plan->mesh[AXIS_MICRO] == 1 && plan->stages == 1 && !beside;
}

// What is used up last comes first; of others what is made first: buffers lie in one array in that order.
static int compare_deaths(const void *left, const void *right)
{
	const Buffer *a = *(Buffer *const *)left, *b = *(Buffer *const *)right;
	if (a->dies != b->dies)
		return a->dies > b->dies ? -1 : 1;
	return a < b ? -1 : a > b;
}

static int compare_births(const void *left, const void *right)
{
	const Unit *a = left, *b = right;
	if (a->born != b->born)
		return a->born < b->born ? -1 : 1;
	return a->members.at[0] < b->members.at[0] ? -1 : a->members.at[0] > b->members.at[0];
}

static Buffers place_activations(const Plan *plan, Role *role, size_t *at)
{
	Buffers found = {0};
	for (int i = 0; i < role->buffers.count; i++)
		if (role->buffers.at[i].class == CLASS_ACTIVATIONS)
			list_add(plan->arena, &found, &role->buffers.at[i]);
	if (found.count)
		qsort(found.at, (size_t)found.count, sizeof *found.at, compare_deaths);
	for (int i = 0; i < found.count; i++)
		place_buffer(found.at[i], at);
	return found;
}

static void add_member(const Plan *plan, Unit *unit, Buffer *buffer, bool *taken)
{
	unit->born = !unit->members.count || buffer->born < unit->born ? buffer->born : unit->born;
	unit->bytes += room_of(buffer);
	*taken = true;
	list_add(plan->arena, &unit->members, buffer);
}

static void add_buckets(const Plan *plan, Role *role, FunctionKind kind, Units *units, bool *taken)
{
	const Function *function = &role->functions.at[kind];
	for (int i = 0; i < function->steps.count; i++) {
		const Step *step = &function->steps.at[i];
		Unit bucket = {.bytes = 0};
		for (int k = 0; k < step->accesses.count && is_bucket(function, step); k++) {
			int buffer = role->buffer_of[step->accesses.at[k].tensor->id];
			if (role->buffers.at[buffer].class == CLASS_GRADIENTS && !taken[buffer])
				add_member(plan, &bucket, &role->buffers.at[buffer], &taken[buffer]);
		}
		if (bucket.members.count)
			list_add(plan->arena, units, bucket);
	}
}

// In the order in which they are made.
static Units find_units(const Plan *plan, Role *role)
{
	Units units = {0};
	bool *taken = arena_alloc(plan->arena, (size_t)role->buffers.count + 1);
	add_buckets(plan, role, FUNCTION_BACKWARD, &units, taken);
	add_buckets(plan, role, FUNCTION_UPDATE, &units, taken);
	for (int i = 0; i < role->buffers.count; i++) {
		Unit alone = {.bytes = 0};
		if (role->buffers.at[i].class != CLASS_GRADIENTS || taken[i])
			continue;
		add_member(plan, &alone, &role->buffers.at[i], &taken[i]);
		list_add(plan->arena, &units, alone);
	}
	if (units.count)
		qsort(units.at, (size_t)units.count, sizeof *units.at, compare_births);
	return units;
}

// The lowest place for all gradients, one below the other, with which none lies on an activation that is used when it is made or later.
static size_t find_bottom(const Units *units, const Buffers *activations, size_t start, size_t all)
{
	size_t bottom = start, below = all; // bytes of the gradients that are made later
	int alive = activations->count;
	for (int i = 0; i < units->count; i++) {
		below -= units->at[i].bytes;
		while (alive && activations->at[alive - 1]->dies < units->at[i].born)
			alive--;
		size_t used = alive ? activations->at[alive - 1]->offset + room_of(activations->at[alive - 1]) : start;
		bottom = used > bottom + below ? used - below : bottom;
	}
	return bottom;
}

void share_bytes(const Plan *plan, Role *role, size_t *at)
{
	size_t start = *at, all = 0;
	Buffers activations = place_activations(plan, role, at);
	Units units = find_units(plan, role);
	for (int i = 0; i < units.count; i++)
		all += units.at[i].bytes;
	size_t bottom = find_bottom(&units, &activations, start, all), below = bottom + all, end = below;
	role->bytes[CLASS_ACTIVATIONS] = *at - start;
	role->bytes[CLASS_GRADIENTS] = all;
	for (int i = 0; i < units.count; i++) {
		size_t place = below -= units.at[i].bytes;
		for (int k = 0; k < units.at[i].members.count; k++)
			place_buffer(units.at[i].members.at[k], &place);
	}
	role->shared = (end < *at ? end : *at) - bottom;
	*at = end > *at ? end : *at;
}
