// families.c: numbers and names of families, and what they have of each other.
//
// A loop over some of the layers that another one goes through counts them as that one does: then what both go through is one family.
//
// Layers hand on what they make: what one reads is what the one that ran before made, and the first reads what comes from before the layers.
// And a layer may end with what the next one begins with, as with its norm, the last one with what follows the layers. Either family is
// another one shifted by a layer, with one member of its own at an end; it is told by the other one, whose name it bears.
#include "families.h"

#include <string.h>

// ---- numbers

// Where the members of a family stand among those of one with more, one behind the other; -1: they do not.
static int place_in(const Family *part, const Family *whole)
{
	for (int k = 0; part->count < whole->count && k + part->count <= whole->count; k++)
		if (!memcmp(part->buffers, whole->buffers + k, (size_t)part->count * sizeof *part->buffers))
			return k;
	return -1;
}

static int base_of(const Family *family)
{
	return family->base < 0 ? 0 : family->base;
}

// A family with more layers that has all members of this one and gives the first this number, or any where it is -1; -1: there is none.
static int find_whole(const Role *role, int part, int number)
{
	for (int i = 0; i < role->families.count; i++) {
		int place = place_in(&role->families.at[part], &role->families.at[i]);
		if (place >= 0 && (number < 0 || base_of(&role->families.at[i]) + place == number))
			return i;
	}
	return -1;
}

static int last_number(const Role *role)
{
	int last = 0;
	for (int i = 0; i < role->families.count; i++) {
		int number = base_of(&role->families.at[i]) + role->families.at[i].count - 1;
		last = number > last ? number : last;
	}
	return last;
}

// The number of a loop's first layer that most of what it goes through asks for; 0 where nothing does.
static int choose_base(const Plan *plan, const Role *role, const Loop *loop)
{
	int last = last_number(role), best = 0, *asked = arena_alloc(plan->arena, (size_t)(last + 1) * sizeof *asked);
	for (int b = 0; b < role->buffers.count; b++) {
		const Family *family = loop->family_of[b] < 0 ? NULL : &role->families.at[loop->family_of[b]];
		if (family && family->base >= 0)
			asked[family->base]++;
		for (int i = 0; family && family->base < 0 && i < role->families.count; i++) {
			int place = place_in(family, &role->families.at[i]);
			if (place >= 0)
				asked[base_of(&role->families.at[i]) + place]++;
		}
	}
	for (int k = 1; k <= last; k++)
		best = asked[k] > asked[best] ? k : best;
	return best;
}

// The family that has the members of this one from number `base` on; made where there is none.
static int numbered(const Plan *plan, Role *role, int family, int base)
{
	int whole = find_whole(role, family, base);
	if (whole >= 0)
		return whole;
	if (role->families.at[family].base >= 0 && role->families.at[family].base != base) {
		Family copy = role->families.at[family];
		list_add(plan->arena, &role->families, copy);
		family = role->families.count - 1;
	}
	role->families.at[family].base = base;
	return family;
}

static void number_loop(const Plan *plan, Role *role, Loop *loop)
{
	int known = role->families.count, *into = arena_alloc(plan->arena, (size_t)(known + 1) * sizeof *into);
	loop->base = choose_base(plan, role, loop);
	for (int i = 0; i < known; i++)
		into[i] = -1;
	for (int b = 0; b < role->buffers.count; b++) {
		int family = loop->family_of[b];
		if (family < 0)
			continue;
		if (into[family] < 0)
			into[family] = numbered(plan, role, family, loop->base);
		loop->family_of[b] = into[family];
	}
}

// Drops families that stand in others and that no loop goes through any more.
static void drop_families(const Plan *plan, Role *role)
{
	int n = role->families.count, kept = 0;
	int *index = arena_alloc(plan->arena, (size_t)(n + 1) * sizeof *index); // 1: a loop goes through it; then where it comes to stand
	for (int f = 0; f < role->functions.count; f++)
		for (int i = 0; i < role->functions.at[f].loops.count; i++)
			for (int b = 0; b < role->buffers.count; b++)
				if (role->functions.at[f].loops.at[i].family_of[b] >= 0)
					index[role->functions.at[f].loops.at[i].family_of[b]] = 1;
	for (int i = 0; i < n; i++)
		index[i] = index[i] || find_whole(role, i, -1) < 0 ? 1 : -1;
	for (int i = 0; i < n; i++)
		if (index[i] > 0) {
			role->families.at[kept] = role->families.at[i];
			role->families.at[kept].base = base_of(&role->families.at[i]);
			index[i] = kept++;
		}
	role->families.count = kept;
	for (int f = 0; f < role->functions.count; f++)
		for (int i = 0; i < role->functions.at[f].loops.count; i++)
			for (int b = 0; b < role->buffers.count; b++) {
				int *family = &role->functions.at[f].loops.at[i].family_of[b];
				*family = *family < 0 ? -1 : index[*family];
			}
}

// Loops of most layers first: others count as they do.
static void number_layers(const Plan *plan, Role *role)
{
	int most = 0;
	for (int f = 0; f < role->functions.count; f++)
		for (int i = 0; i < role->functions.at[f].loops.count; i++)
			most = role->functions.at[f].loops.at[i].count > most ? role->functions.at[f].loops.at[i].count : most;
	for (int count = most; count > 1; count--)
		for (int f = 0; f < role->functions.count; f++)
			for (int i = 0; i < role->functions.at[f].loops.count; i++)
				if (role->functions.at[f].loops.at[i].count == count)
					number_loop(plan, role, &role->functions.at[f].loops.at[i]);
	drop_families(plan, role);
}

// ---- names

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

// ---- neighbours

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
	number_layers(plan, role);
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
