// rows.c: parts of tensors: the rows of one device, or a piece of them.
//
// What tp gathers comes from several devices, and a product may begin with what is here. So steps say which rows they use, and steps that
// use different ones need not wait for each other.
#include "plan.h"

bool rows_meet(const Rows *a, const Rows *b)
{
	if (!a->ranks || !b->ranks)
		return true;
	assert(a->ranks == b->ranks);
	return a->rank == b->rank && a->piece * b->pieces < (b->piece + 1) * a->pieces && b->piece * a->pieces < (a->piece + 1) * b->pieces;
}

bool same_rows(const Rows *a, const Rows *b)
{
	return a->ranks == b->ranks && a->rank == b->rank && a->pieces == b->pieces && a->piece == b->piece;
}

int parts_of(const Rows *rows)
{
	return rows->ranks ? rows->ranks * rows->pieces : 1;
}

int steps_for_all(const Step *step)
{
	return (step->parts ? step->parts : 1) * (step->pieces ? step->pieces : 1);
}

const Rows *rows_used(const Step *step, const Tensor *t)
{
	const Tensor *root = root_of((Tensor *)t);
	for (int i = 0; i < step->accesses.count; i++)
		if (step->accesses.at[i].tensor == root)
			return &step->accesses.at[i].rows;
	return NULL;
}

const Tensor *part_inside(const Tensor *t)
{
	while (!t->inside && op_table[t->producer->op].lowering == LOWER_ALIAS)
		t = t->producer->in[0];
	return t->inside ? t : NULL;
}
