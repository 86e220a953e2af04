// tensors.c: tensors as Lua values.
//
// A tensor of the graph is one userdata, made once, so that equality and use as a table key mean the tensor. It can
// be read (shape, dims, name, type) and computed with, but not changed. What the spec room must remember about a
// tensor beside the graph's own data is kept by its number.
#include <lauxlib.h>
#include <string.h>

#include "session.h"

static const char tensor_values = 0; // its address is the key in Lua's registry: id -> userdata
static const char metatable_name[] = "tensor";

TensorInfo *tensor_info(Session *session, const Tensor *tensor)
{
	while (session->tensors.count <= tensor->id)
		list_add(session->arena, &session->tensors, NULL);
	TensorInfo **info = &session->tensors.at[tensor->id];
	if (!*info) {
		*info = arena_alloc(session->arena, sizeof **info);
		(*info)->scope = "";
	}
	return *info;
}

void push_tensor(lua_State *L, Tensor *tensor)
{
	lua_rawgetp(L, LUA_REGISTRYINDEX, &tensor_values);
	if (lua_rawgeti(L, -1, tensor->id) == LUA_TNIL) {
		lua_pop(L, 1);
		*(Tensor **)lua_newuserdatauv(L, sizeof tensor, 0) = tensor;
		luaL_setmetatable(L, metatable_name);
		lua_pushvalue(L, -1);
		lua_rawseti(L, -3, tensor->id);
	}
	lua_remove(L, -2);
}

Tensor *to_tensor(lua_State *L, int index)
{
	Tensor **value = luaL_testudata(L, index, metatable_name);
	return value ? *value : NULL;
}

Tensor *take_tensor(lua_State *L, int index, const char *what)
{
	Tensor *tensor = to_tensor(L, index);
	if (!tensor)
		spec_error(L, "%s must be a tensor, not %s", what, describe(L, index));
	return tensor;
}

Graph *graph_of(lua_State *L, const char *what)
{
	Session *session = session_of(L);
	if (!session->graph)
		spec_error(L, "%s is called outside of forward\ntensors and parameters are made while forward runs", what);
	return session->graph;
}

static int tensor_field(lua_State *L)
{
	static const char *const fields[] = {"dims", "name", "shape", "type"};
	Session *session = session_of(L);
	const Tensor *tensor = take_tensor(L, 1, "the value");
	const char *field = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
	if (!strcmp(field, "dims"))
		lua_pushinteger(L, tensor->dims);
	else if (!strcmp(field, "name"))
		lua_pushstring(L, tensor->name);
	else if (!strcmp(field, "type"))
		lua_pushstring(L, type_name(tensor->type));
	else if (!strcmp(field, "shape")) {
		lua_createtable(L, tensor->dims, 0);
		for (int i = 0; i < tensor->dims; i++) {
			lua_pushinteger(L, tensor->shape[i]);
			lua_rawseti(L, -2, i + 1);
		}
	} else {
		Names names = {0};
		for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
			list_add(session->arena, &names, fields[i]);
		spec_error(L, "a tensor has no field %s%s\nits fields: shape, dims, name, type",
		           *field ? arena_printf(session->arena, "'%s'", field) : describe(L, 2),
		           did_you_mean(session, field, &names));
	}
	return 1;
}

static int refuse_change(lua_State *L)
{
	spec_error(L, "a tensor cannot be changed");
}

static int tensor_text(lua_State *L)
{
	const Tensor *tensor = take_tensor(L, 1, "the value");
	lua_pushfstring(L, "%s %s", tensor->name, shape_text(session_of(L)->arena, tensor));
	return 1;
}

void open_tensors(lua_State *L)
{
	static const luaL_Reg functions[] = {{"__index", tensor_field}, {"__newindex", refuse_change},
		{"__tostring", tensor_text}, {NULL, NULL}};
	lua_newtable(L);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &tensor_values);
	luaL_newmetatable(L, metatable_name);
	luaL_setfuncs(L, functions, 0);
	add_arithmetic(L);
	lua_pushboolean(L, false);
	lua_setfield(L, -2, "__metatable");
	lua_pop(L, 1);
}
