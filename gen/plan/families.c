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
static const char *name_alone(const Plan *plan, const Role *role, const Family *family)
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

// Whether a family may tell where the members of one are that has as many, and has all of these but one at an end: those from `first` on, which
// that one has from `own` on.
static bool tells(const Plan *plan, const Role *role, int teller, int first, const Family *family, int own)
{
	const Family *other = &role->families.at[teller];
	size_t bytes = (size_t)(family->count - 1) * sizeof *family->buffers;
	return other != family && other->neighbour < 0 && other->count == family->count && !memcmp(other->buffers + first, family->buffers + own, bytes)
	    && own_name(plan, role, other);
}

// The family whose members are what each layer makes and the one that runs next reads as a member of this one; -1: none.
static int find_before(const Plan *plan, const Role *role, int index)
{
	const Family *family = &role->families.at[index];
	if (family->common || tells_another(role, index))
		return -1;
	for (int i = 0; i < role->families.count; i++)
		if (tells(plan, role, i, family->descending, family, !family->descending))
			return i;
	return -1;
}

// The family whose member of the next layer each of this one is, which has no name of its own; -1: none.
static int find_next(const Plan *plan, const Role *role, int index)
{
	const Family *family = &role->families.at[index];
	if (family->common || own_name(plan, role, family))
		return -1;
	for (int i = 0; i < role->families.count; i++)
		if (tells(plan, role, i, 1, family, 0))
			return i;
	return -1;
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

static void find_neighbours(const Plan *plan, Role *role)
{
	for (int i = 0; i < role->families.count; i++)
		role->families.at[i].neighbour = find_before(plan, role, i);
	for (int i = 0; i < role->families.count; i++)
		if (role->families.at[i].neighbour < 0 && !tells_another(role, i)) {
			int next = find_next(plan, role, i);
			role->families.at[i].neighbour = next;
			role->families.at[i].next = next >= 0;
		}
}

void finish_families(const Plan *plan, Role *role)
{
	for (int i = 0; i < role->families.count; i++)
		role->families.at[i].common = lies_at_one_place(role, &role->families.at[i]);
	find_neighbours(plan, role);
	for (int i = 0; i < role->families.count; i++) {
		Family *family = &role->families.at[i];
		const Family *neighbour = family->neighbour >= 0 ? &role->families.at[family->neighbour] : NULL;
		const char *name = name_alone(plan, role, neighbour ? neighbour : family);
		if (neighbour)
			name = arena_printf(plan->arena, family->next ? "%s_next" : "%s_before", name);
		while (name_is_taken(role, name, i))
			name = arena_printf(plan->arena, "%s_also", name);
		family->name = name;
		if (neighbour && neighbour->slots > family->slots)
			family->slots = neighbour->slots; // it hands on the micro-batch
	}
}
