// streams.c: what the chain of a training step does not wait for, on a stream of its own.
//
// Kernels of one stream run one after another, and the launch of each takes its time. Where they are short that is
// what a step of a small model takes, and most of the device idles. Much stands in nobody's way, though. Behind the chain from
// the first layer to the loss and back comes what only the updates or the log read: W work (gradients of parameters), the value of
// the loss, its copy to the host. Ahead of it comes what late steps of the chain read: labels, the learning rate, how losses are
// scaled. These steps go to the side stream, and synchronise() orders them. Long kernels fill the device by themselves: there it
// would hide nothing but launches, so a role has a side stream only where launches are a good part of its time.
#include "cost.h"
#include "depend.h"
#include "fuse.h"

// Of the time of a step, what the side stream must hide at the least.
static const double least_share = 0.1;

typedef struct {
	Plan *plan;
	Role *role;
	bool *needed;           // by tensor id: the chain reads it, or another stage
	bool *ahead;            // by tensor id: made ahead of the chain
} Streams;

static Function *function_at(const Streams *s, FunctionKind kind)
{
	return &s->role->functions.at[kind];
}

// Library calls that keep a workspace of the compute stream's stay, and so does what only an evaluation does.
static bool can_move(const Step *step)
{
	bool movable = step->kind == STEP_ELEMENTWISE || step->kind == STEP_GEMM || step->kind == STEP_KERNEL || step->kind == STEP_COPY;
	return movable && step->stream == STREAM_COMPUTE && step->when != WHEN_EVALUATING;
}

static bool makes_needed(const Streams *s, const Step *step)
{
	for (int i = 0; i < step->accesses.count; i++)
		if (step->accesses.at[i].write && s->needed[step->accesses.at[i].tensor->id])
			return true;
	return false;
}

static Streams start(Plan *plan, Role *role)
{
	size_t tensors = (size_t)plan->graph->tensors.count + 1;
	Streams s = {plan, role, arena_alloc(plan->arena, tensors), arena_alloc(plan->arena, tensors)};
	for (int i = 0; i < plan->transfers.count; i++)
		s.needed[root_of(plan->transfers.at[i]->tensor)->id] = true;
	return s;
}

// ---- the chain

// A step, and how long the longest way from the begin of the forward pass to its end is.
typedef struct {
	const Step *step;
	double seconds;
} Way;

typedef LIST(Way) Ways;

// maker: by tensor id, index of the way of the step that wrote it last, plus 1.
static void measure_ways(const Streams *s, const Function *function, Ways *ways, int *maker)
{
	for (int i = 0; i < function->steps.count; i++) {
		const Step *step = &function->steps.at[i];
		Way way = {step, 0};
		for (int k = 0; k < step->accesses.count; k++) {
			int made = maker[step->accesses.at[k].tensor->id] - 1;
			if (made >= 0 && ways->at[made].seconds > way.seconds)
				way.seconds = ways->at[made].seconds;
		}
		way.seconds += step_seconds(s->plan, step);
		list_add(s->plan->arena, ways, way);
		for (int k = 0; k < step->accesses.count; k++)
			if (step->accesses.at[k].write)
				maker[step->accesses.at[k].tensor->id] = ways->count;
	}
}

// A stage that hands no gradient on to another has a chain all the same: the longest way to any gradient of a parameter.
static void need_longest_way(Streams *s)
{
	const Function *backward = function_at(s, FUNCTION_BACKWARD);
	int longest = -1;
	Ways ways = {0};
	int *maker = arena_alloc(s->plan->arena, (size_t)(s->plan->graph->tensors.count + 1) * sizeof *maker);
	for (int i = 0; i < backward->steps.count; i++)
		if (makes_needed(s, &backward->steps.at[i]))
			return;
	measure_ways(s, function_at(s, FUNCTION_FORWARD), &ways, maker);
	int first = ways.count;
	measure_ways(s, backward, &ways, maker);
	for (int i = first; i < ways.count; i++)
		if (ways.at[i].step->when == WHEN_ALWAYS && (longest < 0 || ways.at[i].seconds >= ways.at[longest].seconds))
			longest = i;
	for (int k = 0; longest >= 0 && k < ways.at[longest].step->accesses.count; k++)
		if (ways.at[longest].step->accesses.at[k].write)
			s->needed[ways.at[longest].step->accesses.at[k].tensor->id] = true;
}

// ---- behind the chain

// Moves the steps of a function that make nothing that is needed, there or in the functions that were looked at before.
static void move_behind(const Streams *s, FunctionKind kind)
{
	Function *function = function_at(s, kind);
	for (int i = function->steps.count - 1; i >= 0; i--) {
		Step *step = &function->steps.at[i];
		bool needed = makes_needed(s, step);
		if (can_move(step) && !needed) {
			step->stream = STREAM_SIDE;
			continue;
		}
		for (int k = 0; k < step->accesses.count && step->when != WHEN_EVALUATING && (needed || step->stream == STREAM_COMPUTE); k++)
			s->needed[step->accesses.at[k].tensor->id] = true;
	}
}

// ---- ahead of the chain

static bool reads_only_ahead(const Streams *s, const Step *step)
{
	for (int i = 0; i < step->nodes.count; i++)
		for (int k = 0; k < step->nodes.at[i]->ins; k++)
			if (!makes(step, step->nodes.at[i]->in[k]) && !s->ahead[root_of(step->nodes.at[i]->in[k])->id])
				return false;
	return true;
}

// The chain begins with the first step of the forward pass that reads what is not computed from numbers alone.
static const Step *first_of_chain(const Streams *s)
{
	const Function *forward = function_at(s, FUNCTION_FORWARD);
	for (int i = 0; i < forward->steps.count; i++)
		for (int k = 0; k < forward->steps.at[i].accesses.count; k++)
			if (forward->steps.at[i].accesses.at[k].tensor->dims > 0)
				return &forward->steps.at[i];
	return NULL;
}

static bool reads(const Step *step, const Tensor *t)
{
	for (int i = 0; i < step->accesses.count; i++)
		if (step->accesses.at[i].tensor == t)
			return true;
	return false;
}

static bool feeds(const Step *step, const Step *reader)
{
	for (int i = 0; i < step->accesses.count; i++)
		if (step->accesses.at[i].write && reads(reader, step->accesses.at[i].tensor))
			return true;
	return false;
}

static void move_ahead_in(const Streams *s, FunctionKind kind, const Step *first)
{
	Function *function = function_at(s, kind);
	for (int i = 0; i < function->steps.count; i++) {
		Step *step = &function->steps.at[i];
		bool early = kind == FUNCTION_PROLOGUE || reads_only_ahead(s, step);
		if (step == first || !early || !can_move(step) || feeds(step, first) || is_sent(s->plan, step))
			continue;
		step->stream = STREAM_SIDE;
		for (int k = 0; k < step->accesses.count; k++)
			s->ahead[step->accesses.at[k].tensor->id] |= step->accesses.at[k].write;
	}
}

// Moves the steps of the prologue that the chain's first step does not read, and what the forward pass computes from their results alone.
static void move_ahead(const Streams *s)
{
	const Step *first = first_of_chain(s);
	if (!first)
		return;
	move_ahead_in(s, FUNCTION_PROLOGUE, first);
	move_ahead_in(s, FUNCTION_FORWARD, first);
}

// ---- whether it pays

static void add_seconds(const Streams *s, FunctionKind kind, double times, double *total, double *hidden)
{
	const Function *function = function_at(s, kind);
	for (int i = 0; i < function->steps.count; i++) {
		const Step *step = &function->steps.at[i];
		if (step->when == WHEN_EVALUATING)
			continue;
		*total += times * step_seconds(s->plan, step);
		if (step->stream == STREAM_SIDE)
			*hidden += times * s->plan->device->launch;
	}
}

static bool pays(const Streams *s)
{
	double total = 0, hidden = 0, microbatches = s->plan->mesh[AXIS_MICRO];
	for (FunctionKind kind = FUNCTION_BEGIN; kind <= FUNCTION_END; kind++)
		add_seconds(s, kind, kind == FUNCTION_FORWARD || kind == FUNCTION_BACKWARD ? microbatches : 1, &total, &hidden);
	return hidden >= least_share * total;
}

static void stay(const Role *role)
{
	for (int f = 0; f < role->functions.count; f++)
		for (int i = 0; i < role->functions.at[f].steps.count; i++)
			if (role->functions.at[f].steps.at[i].stream == STREAM_SIDE)
				role->functions.at[f].steps.at[i].stream = STREAM_COMPUTE;
}

void choose_streams(Plan *plan)
{
	for (int i = 0; i < plan->stages && plan->graph->training; i++) {
		Streams s = start(plan, &plan->roles[i]);
		need_longest_way(&s);
		move_behind(&s, FUNCTION_BACKWARD);
		move_behind(&s, FUNCTION_FORWARD);
		move_behind(&s, FUNCTION_RESULTS);
		move_ahead(&s);
		if (!pays(&s))
			stay(&plan->roles[i]);
	}
}
