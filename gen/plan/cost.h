// cost.h: predicted times. Units: FLOPs, bytes and seconds of one device and one micro-batch.
#ifndef COST_H
#define COST_H

#include "plan.h"

double node_flops(const Plan *plan, const Node *node);
double node_bytes(const Plan *plan, const Node *node);          // read and written in device memory
double collective_bytes(const Plan *plan, const Node *node);    // sent over links by each device
double node_seconds(const Plan *plan, const Node *node);
double seconds(const Plan *plan, Lowering lowering, double flops, double bytes);

#endif
