// report.h: what explain.c and explain_json.c tell in two forms.
#ifndef REPORT_H
#define REPORT_H

#include "plan.h"

typedef struct {
	double bytes[ALL_AXES]; // sent by one device in a step
	double calls[ALL_AXES];
} Traffic;

Traffic find_traffic(const Plan *plan, const Role *role);

const char *schedule_name(const Plan *plan);    // "GPipe", "1F1B", "forward"
int world_size(const Plan *plan);

#endif
