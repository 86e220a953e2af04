// exchange.h: collectives by copy engines.
#ifndef EXCHANGE_H
#define EXCHANGE_H

#include "plan.h"

bool is_exchanged(const Plan *plan, const Step *step);                     // with its stream known
bool is_own_part_read(const Role *role, const Node *gather);                // by a step of the role, of what the all-gather gives
size_t exchange_bytes(const Plan *plan, const Role *role, int axis);        // of the axis' area in the role's arena; 0: none

#endif
