// optimizer.c: the epilogue's updates: one node for each parameter, with its state beside it.
//
// What changes from step to step is an input of the runtime's, read from device memory: the learning rate, and for
// Adam's bias correction the number of the step. The norm of all gradients belongs to the plan (gen/plan/norm.c): which
// gradients a device has, and which it counts, is known only when they are placed.
#include <string.h>

#include "rules.h"

static State *add_state(Graph *graph, Parameter *parameter, const char *what)
{
	const Tensor *w = parameter->tensor;
	const char *name = arena_printf(graph->arena, "%s.%s", parameter->name, what);
	Node *node = add_node(graph, OP_STATE, name, w->producer->location, PHASE_PROLOGUE, NULL, 0, NULL);
	node->block = parameter->block;
	State *state = arena_alloc(graph->arena, sizeof *state);
	*state = (State){.name = node->name, .parameter = parameter};
	state->tensor = add_output(graph, node, w->type, w->dims, w->shape);
	state->tensor->channels_last = w->channels_last;
	memcpy(state->tensor->place, w->place, sizeof w->place);
	memcpy(state->tensor->pinned, w->pinned, sizeof w->pinned);
	node->attributes.state = state;
	list_add(graph->arena, &graph->states, state);
	return state;
}

// A scalar that the runtime writes before each step.
static Tensor *add_scalar(Graph *graph, const char *name, Type type, int kind)
{
	Input *input = add_input(graph, name, graph->optimizer.location, type, 0, NULL);
	input->kind = kind;
	for (int axis = 0; axis < PLACED_AXES; axis++)
		input->tensor->place[axis] = (Placement){REPLICATE, 0};
	return input->tensor;
}

static void update_parameter(Graph *graph, Parameter *parameter, Tensor *rate, Tensor *step)
{
	const Optimizer *optimizer = &graph->optimizer;
	bool adamw = optimizer->kind == OPTIMIZER_ADAMW;
	Attributes update = {.decay = parameter->decay ? optimizer->weight_decay : 0, .parameter = parameter};
	Tensor *in[MAX_INPUTS] = {parameter->tensor, parameter->gradient, rate};
	int ins = 3;
	if (adamw) {
		memcpy(update.betas, optimizer->betas, sizeof update.betas);
		update.epsilon = optimizer->epsilon;
		in[ins++] = add_state(graph, parameter, "exp_avg")->tensor;
		in[ins++] = add_state(graph, parameter, "exp_avg_sq")->tensor;
		in[ins++] = step;
	} else if (optimizer->momentum != 0) {
		update.momentum = optimizer->momentum;
		in[ins++] = add_state(graph, parameter, "momentum")->tensor;
	}
	Node *node = add_node(graph, adamw ? OP_ADAMW : OP_SGD, arena_printf(graph->arena, "%s.update", parameter->name),
	                      parameter->tensor->producer->location, PHASE_EPILOGUE, in, ins, &update);
	node->block = parameter->block;
}

void update_parameters(Graph *graph)
{
	Tensor *rate = add_scalar(graph, "learning_rate", graph->master, INPUT_LEARNING_RATE);
	Tensor *step = graph->optimizer.kind == OPTIMIZER_ADAMW ? add_scalar(graph, "step", TYPE_I32, INPUT_STEP) : NULL;
	for (int i = 0; i < graph->parameters.count; i++)
		if (graph->parameters.at[i]->gradient)
			update_parameter(graph, graph->parameters.at[i], rate, step);
}
