// arguments.c: reading what the user passed to a function of mp.
//
// Every check words its message the same way: what was wanted, what came ("batch must be a positive integer, not
// the string 'abc'"), and for a name that does not exist the nearest one that does.
#include <lauxlib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "session.h"

enum { LONGEST_NAME = 100, LONGEST_SHOWN = 40, MOST_KEYS = 1000 };

const char *describe(lua_State *L, int index)
{
	Arena *arena = session_of(L)->arena;
	index = lua_absindex(L, index);
	Tensor *tensor = to_tensor(L, index);
	if (tensor)
		return arena_printf(arena, "a tensor %s", shape_text(arena, tensor));
	switch (lua_type(L, index)) {
	case LUA_TNONE:
		return "nothing";
	case LUA_TNIL:
		return "nil";
	case LUA_TBOOLEAN:
		return lua_toboolean(L, index) ? "true" : "false";
	case LUA_TNUMBER:
		if (lua_isinteger(L, index))
			return arena_printf(arena, "%lld", (long long)lua_tointeger(L, index));
		return arena_printf(arena, "%.14g", lua_tonumber(L, index));
	case LUA_TSTRING: {
		const char *text = lua_tostring(L, index);
		return arena_printf(arena, "the string '%.*s%s'", LONGEST_SHOWN, text, strlen(text) > LONGEST_SHOWN ? "…" : "");
	}
	}
	int top = lua_gettop(L);
	bool named = luaL_getmetafield(L, index, "__name") == LUA_TSTRING;
	const char *text = arena_printf(arena, "a %s", named ? lua_tostring(L, -1) : luaL_typename(L, index));
	lua_settop(L, top);
	return text;
}

const char *did_you_mean(Session *session, const char *name, const Names *candidates)
{
	const char *near = nearest_name(name, candidates->at, candidates->count);
	return near ? arena_printf(session->arena, "\ndid you mean '%s'?", near) : "";
}

void add_sorted_keys(lua_State *L, int table, Names *names)
{
	Arena *arena = session_of(L)->arena;
	table = lua_absindex(L, table);
	int first = names->count;
	for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1)) {
		if (lua_type(L, -2) != LUA_TSTRING)
			continue;
		if (names->count == MOST_KEYS)
			spec_error(L, "a table with more than %d named fields", MOST_KEYS);
		// longer ones are no names: take_name refuses them
		list_add(arena, names, arena_printf(arena, "%.*s", LONGEST_NAME + 1, lua_tostring(L, -2)));
	}
	for (int i = first + 1; i < names->count; i++) // by insertion: these tables are short
		for (int j = i; j > first && strcmp(names->at[j], names->at[j - 1]) < 0; j--) {
			const char *swap = names->at[j];
			names->at[j] = names->at[j - 1];
			names->at[j - 1] = swap;
		}
}

void check_fields(lua_State *L, int table, const char *what, const char *const *known)
{
	Session *session = session_of(L);
	if (!lua_istable(L, table))
		spec_error(L, "%s takes a table of named fields, not %s", what, describe(L, table));
	Names names = {0}, given = {0};
	for (; *known; known++)
		list_add(session->arena, &names, *known);
	add_sorted_keys(L, table, &given);
	for (int i = 0; i < given.count; i++) {
		bool found = false;
		for (int j = 0; j < names.count; j++)
			found |= !strcmp(given.at[i], names.at[j]);
		if (found)
			continue;
		Text all = {.arena = session->arena};
		for (int j = 0; j < names.count; j++)
			text_add(&all, "%s%s", j ? ", " : "", names.at[j]);
		spec_error(L, "%s: there is no field '%s'%s\nfields: %s", what, given.at[i],
		           did_you_mean(session, given.at[i], &names), all.at);
	}
	table = lua_absindex(L, table);
	for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1))
		if (lua_type(L, -2) != LUA_TSTRING)
			spec_error(L, "%s takes named fields: %s has no name", what, describe(L, -1));
}

long take_integer(lua_State *L, int index, const char *what, long least)
{
	int exact;
	long value = (long)lua_tointegerx(L, index, &exact);
	if (!exact || lua_type(L, index) != LUA_TNUMBER || value < least || value > 1L << 40)
		spec_error(L, "%s must be %s, not %s", what, least == 1 ? "a positive integer" : "an integer from 0 on",
		           describe(L, index));
	return value;
}

double take_number(lua_State *L, int index, const char *what)
{
	double value = lua_tonumber(L, index);
	if (lua_type(L, index) != LUA_TNUMBER || !isfinite(value))
		spec_error(L, "%s must be a finite number, not %s", what, describe(L, index));
	return value;
}

const char *take_string(lua_State *L, int index, const char *what)
{
	if (lua_type(L, index) != LUA_TSTRING)
		spec_error(L, "%s must be a string, not %s", what, describe(L, index));
	return lua_tostring(L, index);
}

// Names become identifiers of emitted code and names of tensors in files.
const char *take_name(lua_State *L, int index, const char *what)
{
	const char *name = take_string(L, index, what);
	size_t length;
	lua_tolstring(L, index, &length);
	bool good = length > 0 && length <= LONGEST_NAME && length == strlen(name), begins = true;
	for (const char *at = name; good && *at; at++) {
		bool letter = (*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') || (*at >= '0' && *at <= '9') || *at == '_';
		good = letter || (*at == '.' && !begins && at[1]);
		begins = *at == '.';
	}
	if (!good)
		spec_error(L, "%s must be letters, digits and '_', in parts joined by '.', at most %d, not %s", what,
		           LONGEST_NAME, describe(L, index));
	return name;
}

long field_integer(lua_State *L, int table, const char *what, const char *name, long least, long missing)
{
	bool given = lua_getfield(L, table, name) != LUA_TNIL;
	const char *field = arena_printf(session_of(L)->arena, "%s: %s", what, name);
	long value = given ? take_integer(L, -1, field, least) : missing;
	lua_pop(L, 1);
	return value;
}

double field_number(lua_State *L, int table, const char *what, const char *name, double missing)
{
	bool given = lua_getfield(L, table, name) != LUA_TNIL;
	const char *field = arena_printf(session_of(L)->arena, "%s: %s", what, name);
	double value = given ? take_number(L, -1, field) : missing;
	lua_pop(L, 1);
	return value;
}

int take_dim(lua_State *L, int index, const char *what, const Tensor *t)
{
	int exact;
	lua_Integer dim = lua_tointegerx(L, index, &exact);
	if (exact && dim < 0)
		dim += t->dims + 1;
	if (!exact || lua_type(L, index) != LUA_TNUMBER || dim < 1 || dim > t->dims)
		spec_error(L, "%s: %s %s has dims 1 to %d (or -1 to -%d from the end), not %s", what, t->name,
		           shape_text(session_of(L)->arena, t), t->dims, t->dims, describe(L, index));
	return (int)dim - 1;
}

int take_shape(lua_State *L, int table, const char *what, long least, long *shape)
{
	if (!lua_istable(L, table))
		spec_error(L, "%s must be a table of extents such as {10, 20}, not %s", what, describe(L, table));
	lua_Unsigned dims = lua_rawlen(L, table);
	if (dims > MAX_DIMS)
		spec_error(L, "%s: a tensor has at most %d dims", what, MAX_DIMS);
	double elements = 1;
	for (int i = 0; i < (int)dims; i++) {
		lua_rawgeti(L, table, i + 1);
		bool wildcard = least < 0 && lua_isinteger(L, -1) && lua_tointeger(L, -1) == -1;
		shape[i] = wildcard ? -1 : take_integer(L, -1, arena_printf(session_of(L)->arena, "%s: extent %d", what, i + 1), 1);
		elements *= (double)labs(shape[i]);
		lua_pop(L, 1);
	}
	if (elements > 0x1p50)
		spec_error(L, "%s: a tensor of %g elements is too large", what, elements);
	return (int)dims;
}

typedef struct {
	HandleKind kind;
	const void *object;
} Handle;

static const char *const handle_names[] = {"data declaration", "optimizer", "init", "program"};

// One metatable a kind: error messages of Lua then say what the value is.
void push_handle(lua_State *L, HandleKind kind, const void *object)
{
	Handle *handle = lua_newuserdatauv(L, sizeof *handle, 0);
	*handle = (Handle){kind, object};
	luaL_setmetatable(L, handle_names[kind]);
}

const void *take_handle(lua_State *L, int index, HandleKind kind)
{
	Handle *handle = luaL_testudata(L, index, handle_names[kind]);
	return handle ? handle->object : NULL;
}

void open_handles(lua_State *L)
{
	for (size_t i = 0; i < sizeof handle_names / sizeof *handle_names; i++) {
		luaL_newmetatable(L, handle_names[i]);
		lua_pushboolean(L, false);
		lua_setfield(L, -2, "__metatable");
		lua_pop(L, 1);
	}
}
