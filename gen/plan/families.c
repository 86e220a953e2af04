// families.c: names of families, and what they have of each other.
//
// Layers hand on what they make: what one reads is what the one that ran before made, and the first reads what comes from before the layers.
// And a layer may end with what the next one begins with, as with its norm, the last one with what follows the layers. Either family is
// another one shifted by a layer, with one member of its own at an end; it is told by the other one, whose name it bears.
#include "families.h"

#include <string.h>

const char *common_name(Arena *arena, const char *a, const char *b)
{
	Text out = {.arena = arena};
	text_add(&out, "%s", "");
	while (*a && *b) {
		size_t left = strspn(a, "0123456789"), right = strspn(b, "0123456789");
		if (left && right && (left != right || strncmp(a, b, left))) {
			while (out.length && (out.at[out.length - 1] == '.' || out.at[out.length - 1] == '_'))
				out.at[--out.length] = 0;
		} else if (left != right || *a != *b) {
			return NULL;
		} else {
			left = right = left ? left : 1;
			text_add(&out, "%.*s", (int)left, a);
		}
		a += left;
		b += right;
	}
	return *a || *b || !out.length ? NULL : out.at;
}

static bool name_is_taken(const Role *role, const char *name, int families)
{
	for (int i = 0; i < role->buffers.count; i++)
		if (!strcmp(role->buffers.at[i].name, name))
			return true;
	for (int i = 0; i < families; i++)
		if (!strcmp(role->families.at[i].name, name))
			return true;
	return false;
}

// A family is named after its last two members: the first may come from before the layers. NULL: the last is of another kind.
static const char *own_name(const Plan *plan, const Role *role, const Family *family)
{
	const Buffer *last = &role->buffers.at[family->buffers[family->count - 1]], *before = &role->buffers.at[family->buffers[family->count - 2]];
	return common_name(plan->arena, before->name, last->name);
}

// Without a name of its own it bears that of its first two, where they are those of the next layers.
static const char *plain_name(const Plan *plan, const Role *role, const Family *family)
{
	const char *own = own_name(plan, role, family), *last = role->buffers.at[family->buffers[family->count - 1]].name;
	const char *others = common_name(plan->arena, role->buffers.at[family->buffers[0]].name, role->buffers.at[family->buffers[1]].name);
	if (own)
		return own;
	return others && !family->descending ? arena_printf(plan->arena, "%s_next", others) : arena_printf(plan->arena, "%s_of_layers", last);
}

static bool tells_another(const Role *role, int family)
{
	for (int i = 0; i < role->families.count; i++)
		if (role->families.at[i].neighbour == family)
			return true;
	return false;
}

static bool lies_at_one_place(const Role *role, const Family *family)
{
	const Buffer *first = &role->buffers.at[family->buffers[0]];
	for (int i = 1; i < family->count; i++) {
		const Buffer *buffer = &role->buffers.at[family->buffers[i]];
		if (buffer->offset != first->offset || buffer->slots != first->slots || buffer->stride != first->stride)
			return false;
	}
	return true;
}

bool told_by(const Family *family, const Family *other, int layer, int shift)
{
	int index = layer + shift - other->base;
	return index >= 0 && index < other->count && other->buffers[index] == family->buffers[layer - family->base];
}

// Whether the other family has, `shift` numbers on, all members of this one but for one at an end.
static bool lies_beside(const Family *family, const Family *other, int shift)
{
	int first = family->base, last = family->base + family->count - 1;
	for (int layer = first; layer <= last; layer++)
		if (layer != (shift > 0 ? last : first) && !told_by(family, other, layer, shift))
			return false;
	return true;
}

// Finds the family of which this one has, but for one at an end, the members of layers whose numbers are `shift`, 1 or -1, more. It has a name of its own
// and says itself where its members lie.
static void find_neighbour(const Plan *plan, Role *role, int index, int shift)
{
	Family *family = &role->families.at[index];
	if (family->common || tells_another(role, index))
		return;
	for (int i = 0; i < role->families.count && family->neighbour < 0; i++) {
		const Family *other = &role->families.at[i];
		if (other != family && other->neighbour < 0 && lies_beside(family, other, shift) && own_name(plan, role, other)) {
			family->neighbour = i;
			family->shift = shift;
		}
	}
}

static int of_layer_before(const Family *family)
{
	return family->descending ? 1 : -1;
}

// First what the layer that ran before has; then, of those without a name, what the next layer has.
static void find_neighbours(const Plan *plan, Role *role)
{
	for (int i = 0; i < role->families.count; i++)
		find_neighbour(plan, role, i, of_layer_before(&role->families.at[i]));
	for (int i = 0; i < role->families.count; i++)
		if (role->families.at[i].neighbour < 0 && !own_name(plan, role, &role->families.at[i]))
			find_neighbour(plan, role, i, 1);
}

void finish_families(const Plan *plan, Role *role)
{
	for (int i = 0; i < role->families.count; i++)
		role->families.at[i].common = lies_at_one_place(role, &role->families.at[i]);
	find_neighbours(plan, role);
	for (int i = 0; i < role->families.count; i++) {
		Family *family = &role->families.at[i];
		const Family *neighbour = family->neighbour >= 0 ? &role->families.at[family->neighbour] : NULL;
		const char *name = plain_name(plan, role, neighbour ? neighbour : family);
		if (neighbour)
			name = arena_printf(plan->arena, family->shift == of_layer_before(family) ? "%s_before" : "%s_next", name);
		while (name_is_taken(role, name, i))
			name = arena_printf(plan->arena, "%s_also", name);
		family->name = name;
		if (neighbour && neighbour->slots > family->slots)
			family->slots = neighbour->slots; // it hands on the micro-batch
	}
}
