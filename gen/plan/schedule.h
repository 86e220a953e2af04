// schedule.h: compute actions before messages are added; shared by schedule.c and messages.c.
#ifndef SCHEDULE_H
#define SCHEDULE_H

#include "plan.h"

typedef struct {
	bool backward;
	int microbatch;
	double start, finish;   // seconds, from simulate
} ComputeAction;

typedef LIST(ComputeAction) Compute;

typedef enum { LIST_TRAIN, LIST_EVALUATE, LIST_INFER } ListKind;

// Needs: one list a stage. Gives: start and finish of every action, as soon as its operands have arrived.
void simulate(Plan *plan, Compute *lists);

// Needs: simulated lists. Gives: each role's action list with its messages, and the functions that send and receive
// them. (messages.c)
void write_actions(Plan *plan, const Compute *lists, ListKind kind);

#endif
