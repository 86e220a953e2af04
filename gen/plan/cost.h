// cost.h: predicted times. Units: FLOPs, bytes and seconds of one device and one micro-batch.
#ifndef COST_H
#define COST_H

#include "plan.h"

double node_flops(const Plan *plan, const Node *node);
double node_bytes(const Plan *plan, const Node *node);          // read and written in device memory
double collective_bytes(const Plan *plan, const Node *node);    // sent over links by each device
double sent_bytes(const Plan *plan, const Step *step);          // the same of collectives that are one step
double node_seconds(const Plan *plan, const Node *node);        // of a node that nothing is fused with
double link_seconds(const Plan *plan, double bytes);            // of a collective or message: bytes that a device sends or receives

// Predicted seconds of a step, which has its accesses; the latency of a bucket counts once, and messages of both directions travel together.
double step_seconds(const Plan *plan, const Step *step);

// Of one of n equal parts, each launched by itself, of what takes so many seconds with one launch.
double part_seconds(const Plan *plan, double whole, int n);

#endif
