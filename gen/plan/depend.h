// depend.h: the order that the steps of one function must keep, and how long it takes.
#ifndef DEPEND_H
#define DEPEND_H

#include "plan.h"

// An earlier step of the function that must have ended before a step begins.
typedef struct {
	int step;
	bool used;              // it made what the step reads or changes; else their accesses only must not overtake each other
} Dependency;

typedef LIST(Dependency) Dependencies;

// Needs: steps with accesses. Gives: what each step depends on.
Dependencies *find_dependencies(const Plan *plan, const Function *function);

// Whether a step waits for other devices. A device has one such step under way at a time. (synchronise.c)
bool is_communication(const Step *step);

// Predicted seconds of one run of a function, communication and the side stream beside the chain where nothing waits for them; without
// what only an evaluation does. last: for the last micro-batch, which may do more.
double function_seconds(const Plan *plan, const Function *function, bool last);

#endif
