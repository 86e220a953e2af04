// place.h: the state of place_tensors, shared with the file that makes conversions.
#ifndef PLACE_H
#define PLACE_H

#include "plan.h"

typedef LIST(Node *) Nodes;

typedef struct {
	Plan *plan;
	Graph *graph;
	Nodes all;              // the graph's nodes before conversions were inserted
	Nodes phases[4];        // the new node lists
	Tensor **latest;        // by tensor id: what consumers read instead (after a conversion of the result)
	int latest_count;
	LIST(Node *) conversions; // made so far, to be used again
	LIST(int) first_of, next_of; // by tensor id, by conversion: a tensor's conversions in order, as indices + 1
	LIST(int) reads;        // by tensor id: reads within the micro-batch phases, counted when the epilogue first asks
	bool counts_reads;
} Placing;

bool same_placement(Placement a, Placement b);

// A node behind the last one of `phase`, in the consumer's block, whose result is t, placed alike, until the caller says otherwise.
Tensor *append_conversion(Placing *p, Op op, const char *what, Tensor *t, Axis axis, int dim, const Node *consumer, Phase phase);

// t in another placement on one axis, for a consumer. The conversion must exist (conversion_cost). (convert.c)
Tensor *insert_conversion(Placing *p, Tensor *t, Axis axis, Placement to, const Node *consumer, Phase phase);

// Behind the prologue: what replicas store in parts is gathered where the model reads it. (zero.c)
void gather_stored(Placing *p);

// Gives the node's operands and results their placement and puts it behind the others of its phase. (place.c)
void place_node(Placing *p, Node *node);

// Where tp shares out the classes of a cross-entropy or accuracy: the new node, to be placed first, that takes of each device's own
// classes what `node` now combines, or combines what `node` now makes the gradient of; else NULL. (classes.c)
Node *split_classes(Placing *p, Node *node);

#endif
