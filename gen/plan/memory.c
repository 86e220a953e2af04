// memory.c: an address for everything, in one arena a device.
//
// What a tensor's bytes are for follows from where it is used. Weights and optimizer state stay for ever. What a
// micro-batch's forward leaves for its backward (or for a message) has slots: as many as micro-batches are in flight
// in the action lists, and one more where another stream fills or empties it, so that communication and computation
// overlap. Everything else is scratch of one function, placed by liveness; functions share the scratch.
#include <stdlib.h>
#include <string.h>

#include "depend.h"
#include "exchange.h"
#include "fuse.h"
#include "overlay.h"

enum { ALIGNMENT = 256, WORKSPACE_BYTES = 32 << 20, LEAST_ARENA = 512 }; // even a stage without work greets its neighbours

const char *const class_names[CLASSES] = {"parameters", "gradients", "optimizer", "activations", "communication", "scratch", "workspace", "exchange"};

size_t aligned(size_t bytes)
{
	return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

// A function that uses a tensor, for one of its micro-batches.
typedef struct {
	int function, argument;
} Use;

// Where a tensor is used in a role. Functions that run once a step do so in the order of their kinds.
typedef struct {
	bool used, in_micro, once, in_forward, in_backward, in_transfer;
	int functions;          // how many functions use it
	int function, first, last; // the last such function, its steps
	int born, dies;         // its first step, and the one up to which nobody else takes the bytes, counted through all functions
	LIST(Use) uses;
} Usage;

static bool is_micro(const Function *function)
{
	return function->kind == FUNCTION_FORWARD || function->kind == FUNCTION_BACKWARD || function->kind == FUNCTION_TRANSFER;
}

static void add_use(const Plan *plan, Usage *usage, int function, int argument)
{
	for (int i = usage->uses.count - 1; i >= 0; i--)
		if (usage->uses.at[i].function == function && usage->uses.at[i].argument == argument)
			return;
	Use use = {function, argument};
	list_add(plan->arena, &usage->uses, use);
}

// By step: up to which step it is under way, seen from computation: its own, or for communication the first one that waits for it. Whoever
// takes its bytes before that would have to wait too.
static int *find_ends(const Plan *plan, const Function *function)
{
	int n = function->steps.count, *ends = arena_alloc(plan->arena, (size_t)(n + 1) * sizeof *ends);
	const Dependencies *on = find_dependencies(plan, function);
	for (int i = 0; i < n; i++)
		ends[i] = is_communication(&function->steps.at[i]) ? n - 1 : i;
	for (int i = n - 1; i >= 0; i--)
		for (int k = 0; k < on[i].count; k++) {
			int *end = &ends[on[i].at[k].step];
			*end = ends[i] < *end && is_communication(&function->steps.at[on[i].at[k].step]) ? ends[i] : *end;
		}
	return ends;
}

static Usage *find_usage(const Plan *plan, const Role *role)
{
	Usage *usage = arena_alloc(plan->arena, (size_t)plan->graph->tensors.count * sizeof *usage);
	for (int f = 0, before = 0; f < role->functions.count; before += role->functions.at[f++].steps.count) {
		const Function *function = &role->functions.at[f];
		const int *ends = find_ends(plan, function);
		for (int i = 0; i < function->steps.count; i++)
			for (int k = 0; k < function->steps.at[i].accesses.count; k++) {
				const Access *access = &function->steps.at[i].accesses.at[k];
				Usage *u = &usage[access->tensor->id];
				add_use(plan, u, f, access->argument);
				if (!u->used || u->function != f) {
					u->functions++;
					u->first = i;
				}
				u->born = u->used ? u->born : before + i;
				u->dies = before + ends[i] > u->dies ? before + ends[i] : u->dies;
				u->used = true;
				u->function = f;
				u->last = i;
				*(is_micro(function) ? &u->in_micro : &u->once) = true;
				u->in_forward |= function->kind == FUNCTION_FORWARD;
				u->in_backward |= function->kind == FUNCTION_BACKWARD;
				u->in_transfer |= function->kind == FUNCTION_TRANSFER;
			}
	}
	return usage;
}

// ---- slots

typedef struct {
	int first, last;        // positions in an action list, -1: not used
	bool received, sent;    // its first use is a receive, its last a send
} Life;

static bool uses_tensor(const Usage *usage, int function, int argument)
{
	for (int i = 0; i < usage->uses.count; i++)
		if (usage->uses.at[i].function == function && usage->uses.at[i].argument == argument)
			return true;
	return false;
}

static Life *lives_in(const Plan *plan, const Role *role, const Actions *list, const Usage *usage)
{
	int m = plan->mesh[AXIS_MICRO];
	Life *lives = arena_alloc(plan->arena, (size_t)m * sizeof *lives);
	for (int k = 0; k < m; k++)
		lives[k].first = -1;
	for (int i = 0; i < list->count; i++) {
		const Action *action = &list->at[i];
		const Function *function = &role->functions.at[action->function];
		for (int argument = 0; argument < 2 && is_micro(function); argument++) {
			int k = argument ? action->second : action->first;
			if (k == EVERY_MICROBATCH || !uses_tensor(usage, action->function, argument))
				continue;
			if (lives[k].first < 0) {
				lives[k].first = i;
				lives[k].received = function->kind == FUNCTION_TRANSFER;
			}
			lives[k].last = i;
			lives[k].sent = function->kind == FUNCTION_TRANSFER;
		}
	}
	return lives;
}

// The fewest slots with which no micro-batch of this list takes a slot before its last owner is done, and one more where
// a message fills or empties it.
static int slots_in(const Plan *plan, const Role *role, const Actions *list, const Usage *usage)
{
	int m = plan->mesh[AXIS_MICRO], slots = 1;
	const Life *lives = lives_in(plan, role, list, usage);
	bool message = false;
	for (int k = 0; k < m; k++) {
		if (lives[k].first < 0)
			continue;
		message |= lives[k].received || lives[k].sent;
		for (int j = k + slots; j < m; j++)
			if (lives[j].first >= 0 && lives[j].first <= lives[k].last)
				slots = j - k + 1;
	}
	return slots + message;
}

static int count_slots(const Plan *plan, const Role *role, const Usage *usage)
{
	const Actions *lists[] = {&role->train, &role->evaluate, &role->infer};
	int m = plan->mesh[AXIS_MICRO], slots = 1;
	for (int l = 0; l < 3; l++) {
		int needed = slots_in(plan, role, lists[l], usage);
		slots = needed > slots ? needed : slots;
	}
	return slots < m ? slots : m;
}

// Tensors that the same functions use need the same slots: what was counted, by a usage of such.
typedef struct {
	const Usage *usage;
	int slots;
} CountedSlots;

typedef LIST(CountedSlots) Counted;

static bool same_uses(const Usage *a, const Usage *b)
{
	for (int i = 0; i < a->uses.count && a->uses.count == b->uses.count; i++)
		if (a->uses.at[i].function != b->uses.at[i].function || a->uses.at[i].argument != b->uses.at[i].argument)
			return false;
	return a->uses.count == b->uses.count;
}

static int slots_for(const Plan *plan, const Role *role, const Usage *usage, Counted *counted)
{
	for (int i = 0; i < counted->count; i++)
		if (same_uses(counted->at[i].usage, usage))
			return counted->at[i].slots;
	CountedSlots fresh = {usage, count_slots(plan, role, usage)};
	list_add(plan->arena, counted, fresh);
	return fresh.slots;
}

// ---- buffers

static const char *identifier(const Plan *plan, Role *role, const char *name)
{
	static const char *const taken[] = {"loaded", "begin_step", "prologue", "forward", "backward", "results", "update", "end_step", "train",
		"evaluate", "infer", "gemms", "updated", "states", "inputs", "outputs", "metrics", "main", "int", "float", "double", "char", "void", "for",
		"if", "do", "while", "long", "short", "return", "static", "const", "struct", "enum", "class", "new", "delete", "this", "r"};
	char *id = arena_strdup(plan->arena, name);
	for (char *c = id; *c; c++)
		if (!(*c >= 'a' && *c <= 'z') && !(*c >= 'A' && *c <= 'Z') && !(*c >= '0' && *c <= '9'))
			*c = '_';
	if (*id >= '0' && *id <= '9')
		id = arena_printf(plan->arena, "n%s", id);
	for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
		if (!strcmp(id, taken[i]))
			id = arena_printf(plan->arena, "%s_buffer", id);
	if (count_name(plan->arena, &role->identifiers, id)->uses > 1)
		return identifier(plan, role, arena_printf(plan->arena, "%s_also", id));
	return id;
}

static Buffer *append_buffer(const Plan *plan, Role *role, Tensor *t, Class class, int slots)
{
	Buffer buffer = {.name = identifier(plan, role, t->in_halves ? arena_printf(plan->arena, "%s.lower", t->name) : t->name), .tensor = t, .class = class, .bytes = local_bytes(plan, t),
	                 .slots = slots, .function = -1};
	list_add(plan->arena, &role->buffers, buffer);
	role->buffer_of[t->id] = role->buffers.count - 1;
	return &role->buffers.at[role->buffers.count - 1];
}

// A whole gradient, which replicas scatter behind the step that completes it: nothing but that reads it, but it is kept from one micro-batch
// to the next, and like other gradients it lies where activations were once these are used.
static bool is_scattered(const Plan *plan, const Tensor *t)
{
	return plan->zero && t->parameter;
}

static void make_buffer(const Plan *plan, Role *role, Tensor *t, const Usage *u, Counted *counted)
{
	const Node *producer = t->producer;
	bool whole = t->place[AXIS_MICRO].kind == SHARD;
	int every = whole ? plan->mesh[AXIS_MICRO] : 1;
	if (producer->op == OP_PARAMETER || is_working_copy(producer) || (gathers_parameter(producer) && u->in_micro))
		append_buffer(plan, role, t, CLASS_PARAMETERS, 1);
	else if (producer->op == OP_STATE || producer->op == OP_TABLE)
		append_buffer(plan, role, t, CLASS_OPTIMIZER, 1);
	else if ((u->once && u->in_micro) || is_scattered(plan, t))
		append_buffer(plan, role, t, (producer->phase == PHASE_BACKWARD || t->parameter) && !whole ? CLASS_GRADIENTS : CLASS_ACTIVATIONS, every)->whole = whole;
	else if (producer->op == OP_INPUT || (u->once && u->functions > 1))
		append_buffer(plan, role, t, CLASS_ACTIVATIONS, every)->whole = whole;
	else if (u->functions == 1 && !u->in_transfer) {
		Buffer *buffer = append_buffer(plan, role, t, CLASS_SCRATCH, u->once ? every : 1);
		buffer->whole = u->once && whole;
		buffer->function = u->function;
		buffer->first = u->first;
		buffer->last = u->last;
	} else
		append_buffer(plan, role, t, u->in_forward && u->in_backward ? CLASS_ACTIVATIONS : CLASS_COMMUNICATION, slots_for(plan, role, u, counted));
}

// Buffers in the order in which steps first use them; gradients of a bucket one behind the other.
static void make_buffers(const Plan *plan, Role *role)
{
	const Usage *usage = find_usage(plan, role);
	Counted counted = {0};
	for (int bucket = 1; bucket >= 0; bucket--)
		for (int f = 0; f < role->functions.count; f++)
			for (int i = 0; i < role->functions.at[f].steps.count; i++) {
				const Step *step = &role->functions.at[f].steps.at[i];
				if (bucket && !is_bucket(&role->functions.at[f], step))
					continue;
				for (int k = 0; k < step->accesses.count; k++) {
					Tensor *t = step->accesses.at[k].tensor;
					if (role->buffer_of[t->id] >= 0)
						continue;
					make_buffer(plan, role, t, &usage[t->id], &counted);
					Buffer *buffer = &role->buffers.at[role->buffer_of[t->id]];
					buffer->born = usage[t->id].born;
					buffer->dies = usage[t->id].dies;
				}
			}
}

// Parameters that no step of this mode uses are stored all the same; but of halves the copy is enough, except for who saves them.
static void make_unused_buffers(const Plan *plan, Role *role)
{
	for (int i = 0; i < role->nodes[PHASE_PROLOGUE].count; i++) {
		const Node *node = role->nodes[PHASE_PROLOGUE].at[i];
		bool saved = plan->graph->training && stage_of(plan, node) == role->stage;
		if (node->op == OP_PARAMETER && role->buffer_of[node->out[0]->id] < 0 && (saved || !node->out[0]->in_halves))
			append_buffer(plan, role, node->out[0], CLASS_PARAMETERS, 1);
	}
}

// ---- addresses

size_t room_of(const Buffer *buffer)
{
	return aligned(buffer->bytes * (size_t)buffer->slots);
}

void place_buffer(Buffer *buffer, size_t *at)
{
	buffer->offset = *at;
	buffer->stride = buffer->bytes;
	*at += room_of(buffer);
}

static void place_class(Role *role, Class class, size_t *at)
{
	size_t start = *at;
	for (int i = 0; i < role->buffers.count; i++) {
		Buffer *buffer = &role->buffers.at[i];
		if (buffer->class != class || (buffer->slots != 1 && !buffer->whole))
			continue;
		place_buffer(buffer, at);
	}
	role->bytes[class] += *at - start;
}

// Buffers with equally many slots form one record; micro-batch k's record is k % slots.
static void place_records(Role *role, Class class, size_t *at)
{
	size_t start = *at;
	for (int slots = 2;; slots++) {
		size_t stride = 0;
		bool larger = false;
		for (int i = 0; i < role->buffers.count; i++) {
			Buffer *buffer = &role->buffers.at[i];
			larger |= buffer->class == class && buffer->slots > slots && !buffer->whole;
			if (buffer->class != class || buffer->slots != slots || buffer->whole)
				continue;
			buffer->offset = *at + stride;
			stride += aligned(buffer->bytes);
		}
		for (int i = 0; i < role->buffers.count; i++)
			if (role->buffers.at[i].class == class && role->buffers.at[i].slots == slots && !role->buffers.at[i].whole)
				role->buffers.at[i].stride = stride;
		*at += stride * slots;
		if (!larger)
			break;
	}
	role->bytes[class] += *at - start;
}

// What the side stream uses has bytes of its own: it may be in use all through its function and beside other ones, and where the chain
// took the same bytes, one of them would wait for the other.
static void keep_for_side(Role *role)
{
	for (int f = 0; f < role->functions.count; f++)
		for (int i = 0; i < role->functions.at[f].steps.count; i++) {
			const Step *step = &role->functions.at[f].steps.at[i];
			for (int k = 0; k < step->accesses.count && step->stream == STREAM_SIDE; k++)
				role->buffers.at[role->buffer_of[step->accesses.at[k].tensor->id]].side = true;
		}
}

static bool live_together(const Buffer *a, const Buffer *b)
{
	return a->side || b->side || (a->born <= b->dies && b->born <= a->dies);
}

static int compare_scratch(const void *left, const void *right)
{
	const Buffer *a = *(Buffer *const *)left, *b = *(Buffer *const *)right;
	if (room_of(a) != room_of(b))
		return room_of(a) > room_of(b) ? -1 : 1;
	return a < b ? -1 : a > b; // they lie in one array, in order of first use
}

// Largest first, each at the lowest offset where nothing that lives at the same time lies.
static void place_scratch(const Plan *plan, Role *role, size_t *at)
{
	int n = role->buffers.count, placed = 0, count = 0;
	keep_for_side(role);
	Buffer **order = arena_alloc(plan->arena, (size_t)(n + 1) * sizeof *order);
	for (int i = 0; i < n; i++)
		if (role->buffers.at[i].class == CLASS_SCRATCH)
			order[count++] = &role->buffers.at[i];
	qsort(order, (size_t)count, sizeof *order, compare_scratch);
	for (; placed < count; placed++) {
		Buffer *largest = order[placed];
		size_t offset = 0;
		for (bool moved = true; moved;) {
			moved = false;
			for (int k = 0; k < placed; k++)
				if (live_together(order[k], largest) && offset < order[k]->offset + room_of(order[k])
				    && order[k]->offset < offset + room_of(largest)) {
					offset = order[k]->offset + room_of(order[k]);
					moved = true;
				}
		}
		largest->offset = offset;
		largest->stride = largest->bytes;
	}
	size_t size = 0;
	for (int k = 0; k < placed; k++) {
		size_t end = order[k]->offset + room_of(order[k]);
		size = end > size ? end : size;
		order[k]->offset += *at;
	}
	role->bytes[CLASS_SCRATCH] = size;
	*at += size;
}

static void resolve_accesses(Role *role)
{
	for (int f = 0; f < role->functions.count; f++)
		for (int i = 0; i < role->functions.at[f].steps.count; i++)
			for (int k = 0; k < role->functions.at[f].steps.at[i].accesses.count; k++) {
				Access *access = &role->functions.at[f].steps.at[i].accesses.at[k];
				access->buffer = role->buffer_of[access->tensor->id];
			}
}

// What a library call may spend beside its operands. The fastest f32 convolutions of cuDNN work on copies of the images: in
// the spec's order, and for the gradient of the weights transformed, 1.16 and 3.26 times their bytes as measured on an H100
// (tests/bench/conv_engines.c). On tensor cores (tf32) channels-last is what they want, but where channels are not a
// multiple of 16 bytes the gradient of the weights works on copies too.
static size_t workspace_of(const Plan *plan, const Step *step)
{
	if (step->kind == STEP_ATTENTION)
		return WORKSPACE_BYTES + aligned(attention_slice(plan, step->nodes.at[0]).bytes);
	if (step->kind != STEP_GEMM && step->kind != STEP_CONV && step->kind != STEP_CHUNKS)
		return 0;
	const Node *node = step->nodes.at[0];
	ConvSlice slice = step->kind == STEP_CONV ? conv_slice(plan, node) : (ConvSlice){.samples = 0};
	if (slice.samples)
		return WORKSPACE_BYTES + aligned(slice.bytes);
	bool of_weights = node->op == OP_CONV2D_WEIGHT_GRAD, odd = of_weights && local_extent(plan, node->in[1], 3) % 4;
	double copies = step->kind != STEP_CONV || (plan->tf32 && !odd) ? 0 : plan->tf32 ? 1 : of_weights ? 3.5 : 1.25;
	size_t images = aligned(local_bytes(plan, node->in[0])) + aligned(local_bytes(plan, node->in[1])) + aligned(local_bytes(plan, node->out[0]));
	return WORKSPACE_BYTES + aligned((size_t)(copies * (double)images));
}

static void add_workspace(const Plan *plan, Role *role, size_t *at)
{
	size_t most = 0, streams = 1;
	for (int f = 0; f < role->functions.count && plan->graph->real != TYPE_F64; f++)
		for (int i = 0; i < role->functions.at[f].steps.count; i++) {
			const Step *step = &role->functions.at[f].steps.at[i];
			size_t needed = workspace_of(plan, step);
			most = needed > most ? needed : most;
			streams = needed && step->stream == STREAM_SIDE ? 2 : streams;
		}
	role->workspace_offset = *at;
	role->workspace = most;
	role->bytes[CLASS_WORKSPACE] = streams * most;
	*at += role->bytes[CLASS_WORKSPACE];
}

static void add_exchanges(const Plan *plan, Role *role, size_t *at)
{
	for (int axis = AXIS_DP; axis <= AXIS_PP; axis++) {
		role->exchange[axis].bytes = exchange_bytes(plan, role, axis);
		role->exchange[axis].offset = *at;
		role->bytes[CLASS_EXCHANGE] += role->exchange[axis].bytes;
		*at += role->exchange[axis].bytes;
	}
}

void check_capacity(const Plan *plan)
{
	for (int s = 0; s < plan->stages; s++) {
		const Role *role = &plan->roles[s];
		if (role->arena + plan->device->overhead > plan->device->capacity)
			fail(EXIT_DOES_NOT_FIT, "stage %d needs %.2f GiB on each device (%zu bytes in its arena and about %.2f GiB for the context and "
			     "libraries), but %s has %.2f GiB\nmore devices (tp, pp), more micro-batches or a smaller batch need less; --explain shows what takes it",
			     s, (double)(role->arena + plan->device->overhead) / 0x1p30, role->arena, (double)plan->device->overhead / 0x1p30,
			     plan->device->name, (double)plan->device->capacity / 0x1p30);
	}
}

void plan_memory(Plan *plan)
{
	for (int s = 0; s < plan->stages; s++) {
		Role *role = &plan->roles[s];
		role->buffer_of = arena_alloc(plan->arena, (size_t)plan->graph->tensors.count * sizeof *role->buffer_of);
		for (int i = 0; i < plan->graph->tensors.count; i++)
			role->buffer_of[i] = -1;
		make_buffers(plan, role);
		make_unused_buffers(plan, role);
		size_t at = 0;
		bool shares = may_share(plan, role);
		for (Class class = CLASS_PARAMETERS; class <= CLASS_COMMUNICATION; class++) {
			if (shares && (class == CLASS_GRADIENTS || class == CLASS_ACTIVATIONS))
				continue;
			place_class(role, class, &at);
			place_records(role, class, &at);
		}
		if (shares)
			share_bytes(plan, role, &at);
		add_workspace(plan, role, &at);
		add_exchanges(plan, role, &at);
		place_scratch(plan, role, &at);
		role->arena = at < LEAST_ARENA ? LEAST_ARENA : at;
		resolve_accesses(role);
	}
}
