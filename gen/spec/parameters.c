// parameters.c: trained tensors and placements that the spec fixes: mp.parameter, the inits, mp.constrain.
//
// A parameter is stored as its declaration says: sharded over tp on one dim, or replicated; so its placement is
// pinned either way. mp.constrain pins any other tensor. Dims count from 1 here, as everywhere in Lua.
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "session.h"

static int push_init(lua_State *L, Init value)
{
	Init *init = arena_alloc(session_of(L)->arena, sizeof *init);
	*init = value;
	push_handle(L, HANDLE_INIT, init);
	return 1;
}

// mp.uniform(a, b): U[a, b)
static int uniform(lua_State *L)
{
	Init init = {INIT_UNIFORM, take_number(L, 1, "mp.uniform: the lower bound"), take_number(L, 2, "mp.uniform: the upper bound")};
	if (init.a > init.b)
		spec_error(L, "mp.uniform: the lower bound %g is above the upper bound %g", init.a, init.b);
	return push_init(L, init);
}

// mp.normal(mean, std)
static int normal(lua_State *L)
{
	Init init = {INIT_NORMAL, take_number(L, 1, "mp.normal: the mean"), take_number(L, 2, "mp.normal: the standard deviation")};
	if (init.b < 0)
		spec_error(L, "mp.normal: the standard deviation must not be negative, not %g", init.b);
	return push_init(L, init);
}

// mp.constant(value)
static int constant(lua_State *L)
{
	return push_init(L, (Init){INIT_CONSTANT, take_number(L, 1, "mp.constant: the value"), 0});
}

// A parameter's name is its name in files, so it cannot be changed to be unique.
static void refuse_taken_name(lua_State *L, const Graph *graph, const char *name)
{
	for (int i = 0; i < graph->tensors.count; i++) {
		const Tensor *tensor = graph->tensors.at[i];
		if (strcmp(tensor->name, name))
			continue;
		const Location *first = tensor->producer->location;
		const char *kind = tensor->producer->op == OP_PARAMETER ? "two parameters have the name" :
		                   "a parameter and another tensor have the name";
		spec_error(L, "%s '%s'\nthe first is at %s:%d\n"
		           "to share a weight, make it once and pass it: nn.linear(…, { weight = w })", kind, name, first->file, first->line);
	}
}

static void pin(Session *session, Tensor *tensor, Axis axis, Placement placement, const Location *location)
{
	tensor->pinned[axis] = true;
	tensor->place[axis] = placement;
	tensor_info(session, tensor)->pinned[axis] = location;
}

// The options of mp.parameter or mp.buffer, at index 4.
static void apply_options(lua_State *L, Parameter *parameter)
{
	static const char *const of_parameter[] = {"shard", "decay", "files", NULL}, *const of_buffer[] = {"shard", "type", NULL};
	Session *session = session_of(L);
	const char *what = parameter->trained ? "mp.parameter" : "mp.buffer";
	check_fields(L, 4, what, parameter->trained ? of_parameter : of_buffer);
	if (lua_getfield(L, 4, "shard") != LUA_TNIL) {
		int dim = take_dim(L, -1, arena_printf(session->arena, "%s: shard", what), parameter->tensor);
		pin(session, parameter->tensor, AXIS_TP, (Placement){SHARD, dim}, here(L));
	}
	if (parameter->trained && lua_getfield(L, 4, "decay") != LUA_TNIL) {
		if (!lua_isboolean(L, -1))
			spec_error(L, "mp.parameter: decay must be true or false, not %s", describe(L, -1));
		parameter->decay = lua_toboolean(L, -1);
	}
	if (parameter->trained && lua_getfield(L, 4, "files") != LUA_TNIL)
		read_pieces(L, parameter);
	lua_settop(L, 4);
}

// What mp.parameter and mp.buffer are given, and what both make.
typedef struct {
	const char *name;
	int dims;
	long shape[MAX_DIMS];
	Init init;
} Declared;

static Declared read_declared(lua_State *L, const char *what)
{
	Session *session = session_of(L);
	Graph *graph = graph_of(L, what);
	Declared made = {0};
	lua_settop(L, 4);
	made.name = arena_strdup(session->arena, scoped(session, take_name(L, 1, arena_printf(session->arena, "%s: the name", what))));
	made.dims = take_shape(L, 2, arena_printf(session->arena, "%s: the shape of '%s'", what, made.name), 1, made.shape);
	const Init *init = take_handle(L, 3, HANDLE_INIT);
	if (!init)
		spec_error(L, "%s: the init of '%s' must be made by mp.uniform, mp.normal, mp.constant or be mp.zeros, not %s",
		           what, made.name, describe(L, 3));
	made.init = *init;
	refuse_taken_name(L, graph, made.name);
	begin_node(L);
	return made;
}

static void finish_declared(lua_State *L, Parameter *made)
{
	Session *session = session_of(L);
	for (Axis axis = 0; axis < PLACED_AXES; axis++)
		pin(session, made->tensor, axis, (Placement){REPLICATE, 0}, NULL);
	tensor_info(session, made->tensor)->scope = session->scope;
	if (!lua_isnil(L, 4))
		apply_options(L, made);
	push_tensor(L, made->tensor);
}

// mp.parameter(name, {extents…}, init[, { shard = dim, decay = true, files = { { name =, … }, … } }])
static int parameter(lua_State *L)
{
	Declared declared = read_declared(L, "mp.parameter");
	finish_declared(L, add_parameter(session_of(L)->graph, declared.name, here(L), declared.dims, declared.shape, declared.init));
	return 1;
}

// The type of a buffer: that of the model, or "i32".
static Type buffer_type(lua_State *L)
{
	Session *session = session_of(L);
	Type type = session->graph->master;
	if (lua_istable(L, 4) && lua_getfield(L, 4, "type") != LUA_TNIL) {
		if (strcmp(take_string(L, -1, "mp.buffer: type"), "i32"))
			spec_error(L, "mp.buffer: the type must be \"i32\", or none for the model's own, not %s", describe(L, -1));
		type = TYPE_I32;
	}
	lua_settop(L, 4);
	return type;
}

// mp.buffer(name, {extents…}, init[, { shard = dim, type = "i32" }]): saved and not trained; {} is a scalar.
static int buffer(lua_State *L)
{
	Declared declared = read_declared(L, "mp.buffer");
	Type type = buffer_type(L);
	finish_declared(L, add_buffer(session_of(L)->graph, declared.name, here(L), type, declared.dims, declared.shape, declared.init));
	return 1;
}

static const char *placement_text(Arena *arena, Placement placement)
{
	return placement.kind == SHARD ? arena_printf(arena, "sharded on dim %d", placement.dim + 1) : "replicated";
}

// One axis of mp.constrain: the value on top of the stack.
static void constrain_axis(lua_State *L, Tensor *tensor, Axis axis, const char *name)
{
	Session *session = session_of(L);
	const char *what = arena_printf(session->arena, "mp.constrain: %s", name);
	Placement wanted = {REPLICATE, 0};
	if (lua_type(L, -1) == LUA_TSTRING) {
		if (strcmp(lua_tostring(L, -1), "replicate"))
			spec_error(L, "%s must be a dim or \"replicate\", not %s", what, describe(L, -1));
	} else {
		wanted = (Placement){SHARD, take_dim(L, -1, what, tensor)};
	}
	const Location *before = tensor_info(session, tensor)->pinned[axis];
	Placement old = tensor->place[axis];
	if (before && (old.kind != wanted.kind || old.dim != wanted.dim))
		spec_error(L, "%s: %s is to be %s here and %s at %s:%d", what, tensor->name, placement_text(session->arena, wanted),
		           placement_text(session->arena, old), before->file, before->line);
	pin(session, tensor, axis, wanted, here(L));
}

// mp.constrain(x, { dp = dim | "replicate", tp = dim | "replicate" }): fixes how x lies on the axes; gives back x.
static int constrain(lua_State *L)
{
	static const char *const known[] = {"dp", "tp", NULL};
	static const Axis axes[] = {AXIS_DP, AXIS_TP};
	graph_of(L, "mp.constrain");
	Tensor *tensor = take_tensor(L, 1, "mp.constrain: argument 1");
	lua_settop(L, 2);
	if (lua_istable(L, 2) && lua_getfield(L, 2, "pp") != LUA_TNIL)
		spec_error(L, "mp.constrain: pp is the axis of stages: tensors do not lie on it\nuse mp.cut() or mp.block to say what stages may be");
	lua_settop(L, 2);
	check_fields(L, 2, "mp.constrain", known);
	for (int i = 0; known[i]; i++) {
		if (lua_getfield(L, 2, known[i]) != LUA_TNIL)
			constrain_axis(L, tensor, axes[i], known[i]);
		lua_settop(L, 2);
	}
	push_tensor(L, tensor);
	return 1;
}

// What layers written in Lua need: mp.check_fields("nn.linear", options, {"shard", "bias"}) and mp.fail(message).
static int check_fields_of(lua_State *L)
{
	Session *session = session_of(L);
	Names known = {0};
	const char *what = take_string(L, 1, "mp.check_fields: what it is");
	luaL_checktype(L, 3, LUA_TTABLE);
	for (int i = 1; lua_rawgeti(L, 3, i) != LUA_TNIL; i++, lua_pop(L, 1))
		list_add(session->arena, &known, arena_strdup(session->arena, take_string(L, -1, "mp.check_fields: a field")));
	list_add(session->arena, &known, NULL);
	check_fields(L, 2, what, known.at);
	return 0;
}

static int fail_with(lua_State *L)
{
	spec_error(L, "%s", take_string(L, 1, "mp.fail: the message"));
}

// mp.describe(value): what a message calls it.
static int describe_value(lua_State *L)
{
	lua_pushstring(L, describe(L, 1));
	return 1;
}

static int is_tensor(lua_State *L)
{
	lua_pushboolean(L, to_tensor(L, 1) != NULL);
	return 1;
}

void open_parameters(lua_State *L)
{
	static const luaL_Reg functions[] = {{"parameter", parameter}, {"buffer", buffer}, {"uniform", uniform}, {"normal", normal},
		{"constant", constant}, {"constrain", constrain}, {"check_fields", check_fields_of}, {"fail", fail_with},
		{"describe", describe_value}, {"is_tensor", is_tensor}, {NULL, NULL}};
	luaL_setfuncs(L, functions, 0);
	push_init(L, (Init){INIT_CONSTANT, 0, 0});
	lua_setfield(L, -2, "zeros");
}
