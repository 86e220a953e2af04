// numbers.c: the numbers of layers.
//
// A loop over some of the layers that another one goes through, as where the first layer of a backward pass does something more, counts
// them as that one does. Then what both go through is one family, and a layer has the same number wherever it is named.
#include "families.h"

#include <string.h>

typedef LIST(Loop *) Loops;

// All loops of a role, those of most layers first.
static Loops loops_of(const Plan *plan, Role *role)
{
	Loops loops = {0};
	for (int f = 0; f < role->functions.count; f++)
		for (int i = 0; i < role->functions.at[f].loops.count; i++) {
			list_add(plan->arena, &loops, &role->functions.at[f].loops.at[i]);
			for (int k = loops.count - 1; k > 0 && loops.at[k]->count > loops.at[k - 1]->count; k--) {
				Loop *more = loops.at[k];
				loops.at[k] = loops.at[k - 1];
				loops.at[k - 1] = more;
			}
		}
	return loops;
}

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
		if (family >= 0 && into[family] < 0)
			into[family] = numbered(plan, role, family, loop->base);
		loop->family_of[b] = family < 0 ? -1 : into[family];
	}
}

// Drops families that stand in others and that no loop goes through any more.
static void drop_families(const Plan *plan, Role *role, const Loops *loops)
{
	int n = role->families.count, kept = 0, *index = arena_alloc(plan->arena, (size_t)(n + 1) * sizeof *index);
	bool *used = arena_alloc(plan->arena, (size_t)(n + 1) * sizeof *used);
	for (int i = 0; i < loops->count; i++)
		for (int b = 0; b < role->buffers.count; b++)
			if (loops->at[i]->family_of[b] >= 0)
				used[loops->at[i]->family_of[b]] = true;
	for (int i = 0; i < n; i++)
		used[i] |= find_whole(role, i, -1) < 0;
	for (int i = 0; i < n; i++)
		if (used[i]) {
			index[i] = kept;
			role->families.at[kept++] = role->families.at[i];
		}
	role->families.count = kept;
	for (int i = 0; i < loops->count; i++)
		for (int b = 0; b < role->buffers.count; b++)
			if (loops->at[i]->family_of[b] >= 0)
				loops->at[i]->family_of[b] = index[loops->at[i]->family_of[b]];
}

void number_layers(const Plan *plan, Role *role)
{
	Loops loops = loops_of(plan, role);
	for (int i = 0; i < loops.count; i++)
		number_loop(plan, role, loops.at[i]);
	drop_families(plan, role, &loops);
	for (int i = 0; i < role->families.count; i++)
		role->families.at[i].base = base_of(&role->families.at[i]);
}
