// fuse.h: pieces of the pass fuse_steps, and helpers on steps that later passes use.
#ifndef FUSE_H
#define FUSE_H

#include "plan.h"

Function *function_of(Role *role, FunctionKind kind);   // one of the fixed functions
Step step_of_node(const Plan *plan, Node *node);
void add_step(const Plan *plan, Function *function, Node *node);
void insert_step(const Plan *plan, Function *function, int index, Step step);  // in front of the one there
void remove_step(Function *function, int index);
void add_access(const Plan *plan, Step *step, Tensor *t, bool write, int argument);     // of all of t
void add_rows(const Plan *plan, Step *step, Tensor *t, Rows rows, bool write, int argument);
bool makes(const Step *step, const Tensor *t);          // t is an output of one of its nodes
bool is_sent(const Plan *plan, const Step *step);       // it makes what another stage receives

// The functions that run once a step, on all stages at once: their nodes and messages in one order that every
// stage keeps, so that no two stages wait for each other. (sequence.c)
void sequence_prologue(Plan *plan);
void sequence_epilogue(Plan *plan);

// Needs: a backward function with a step for each sum, uses by tensor id. Gives: sums of a norm's gradient that its kernel begins. (sums.c)
void begin_sums(const Plan *plan, Function *function, const int *uses);

// Marks the nodes whose result takes the memory of their first operand, and what lies inside of what is gathered from it. uses: by tensor id, nodes that read it. (in_place.c)
void find_in_place(Plan *plan, const int *uses);

// Needs: a function with accesses. Gives: products of what tp gathers a device's rows at a time, its own first. (own_rows.c)
void begin_with_own_rows(const Plan *plan, Function *function);

// Needs: functions of a role with accesses. Gives: what is computed row by row between collectives in pieces of rows. (in_pieces.c)
void compute_in_pieces(const Plan *plan, Role *role);

// Needs: a function with accesses. Gives: the same steps in an order in which gradients of weights are computed while
// collectives are under way. (order.c)
void hide_communication(const Plan *plan, Function *function);

// Moves the all-reduces of gradients from the epilogue into the backward pass of the last micro-batch, some
// gradients at a time, and joins small ones that stay. (buckets.c)
void make_buckets(Plan *plan, Role *role);

// With --zero 1: puts what gathers a parameter before the first step that reads it, and what scatters a gradient behind the one that
// completes it. (zero.c)
void gather_before_use(const Plan *plan, Role *role);
void scatter_gradients(Plan *plan, Role *role);

// Whether a step reduces gradients that lie side by side, of which there may be several. (buckets.c)
bool is_bucket(const Function *function, const Step *step);

#endif
