// library.c: the part of Lua's standard library that a spec sees.
//
// A spec must mean the same on every machine and every run, and must not touch the machine it is read on. So whole
// libraries that reach outside are replaced by a stand-in that says so, and what differs from run to run is fixed:
// random numbers start from one seed, and the addresses of tables and functions are not shown. Finalizers and weak
// tables are refused: they run code, or show, when the garbage collector happens to run.
#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <string.h>

#include "session.h"

static int refuse(lua_State *L)
{
	spec_error(L, "%s is not available in a spec: a spec only describes a model",
	           lua_tostring(L, lua_upvalueindex(1)));
}

static void push_refusal(lua_State *L, const char *name)
{
	lua_pushstring(L, name);
	lua_pushcclosure(L, refuse, 1);
}

// A global table whose every use is an error at its line.
static void forbid_library(lua_State *L, const char *name)
{
	static const char *const uses[] = {"__index", "__newindex", "__call", "__pairs", "__len"};
	lua_newtable(L);
	lua_newtable(L);
	for (size_t i = 0; i < sizeof uses / sizeof *uses; i++) {
		push_refusal(L, name);
		lua_setfield(L, -2, uses[i]);
	}
	lua_pushboolean(L, false);
	lua_setfield(L, -2, "__metatable");
	lua_setmetatable(L, -2);
	lua_setglobal(L, name);
}

// Like luaL_tolstring, but a value without a text of its own is shown by its type, not by its address.
static const char *push_text(lua_State *L, int index)
{
	switch (lua_type(L, index)) {
	case LUA_TNIL: case LUA_TBOOLEAN: case LUA_TNUMBER: case LUA_TSTRING:
		return luaL_tolstring(L, index, NULL);
	}
	if (luaL_callmeta(L, index, "__tostring")) {
		if (!lua_isstring(L, -1))
			luaL_error(L, "'__tostring' must return a string");
		return lua_tostring(L, -1);
	}
	if (luaL_getmetafield(L, index, "__name") == LUA_TSTRING)
		return lua_tostring(L, -1);
	return lua_pushstring(L, luaL_typename(L, index));
}

static int safe_tostring(lua_State *L)
{
	luaL_checkany(L, 1);
	push_text(L, 1);
	return 1;
}

// To stderr: stdout is for results.
static int safe_print(lua_State *L)
{
	int count = lua_gettop(L);
	for (int i = 1; i <= count; i++) {
		if (i > 1)
			fputc('\t', stderr);
		for (const char *at = push_text(L, i); *at; at++)
			fputc((unsigned char)*at < 0x20 && *at != '\t' && *at != '\n' ? '?' : *at, stderr);
		lua_pop(L, 1);
	}
	fputc('\n', stderr);
	return 0;
}

// string.format without %p; other values go in as their text.
static int safe_format(lua_State *L)
{
	const char *format = luaL_checkstring(L, 1);
	for (const char *at = format; (at = strchr(at, '%')); at++) {
		at++;
		at += strspn(at, "-+ #0123456789.");
		if (*at == 'p')
			return luaL_error(L, "string.format: '%%p' is not available in a spec: addresses differ from run to run");
		if (!*at)
			break;
	}
	int count = lua_gettop(L);
	for (int i = 2; i <= count; i++) {
		int type = lua_type(L, i);
		if (type != LUA_TTABLE && type != LUA_TFUNCTION && type != LUA_TUSERDATA && type != LUA_TTHREAD)
			continue;
		push_text(L, i);
		lua_replace(L, i);
	}
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_insert(L, 1);
	lua_call(L, count, 1);
	return 1;
}

static int safe_setmetatable(lua_State *L)
{
	static const char *const refused[] = {"__gc", "__mode"};
	for (size_t i = 0; i < sizeof refused / sizeof *refused && lua_istable(L, 2); i++) {
		lua_pushstring(L, refused[i]);
		if (lua_rawget(L, 2) != LUA_TNIL)
			spec_error(L, "setmetatable: %s is not available in a spec: when garbage is collected is not defined",
			           refused[i]);
		lua_pop(L, 1);
	}
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_insert(L, 1);
	lua_call(L, lua_gettop(L) - 1, 1);
	return 1;
}

// load for text only, under a fixed name, so that a chunk cannot pose as a file.
static int safe_load(lua_State *L)
{
	bool has_environment = !lua_isnone(L, 4);
	lua_settop(L, 4);
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_pushvalue(L, 1);
	lua_pushliteral(L, "=(load)");
	lua_pushliteral(L, "t");
	if (has_environment)
		lua_pushvalue(L, 4);
	lua_call(L, has_environment ? 4 : 3, LUA_MULTRET);
	return lua_gettop(L) - 4;
}

static int safe_randomseed(lua_State *L)
{
	luaL_checknumber(L, 1); // without a seed Lua takes the time
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_insert(L, 1);
	lua_call(L, lua_gettop(L) - 1, 0);
	return 0;
}

// Replaces the field of the table on top of the stack by `safe`, which gets the original as upvalue.
static void wrap(lua_State *L, const char *name, lua_CFunction safe)
{
	lua_getfield(L, -1, name);
	lua_pushcclosure(L, safe, 1);
	lua_setfield(L, -2, name);
}

static void forbid_function(lua_State *L, const char *field, const char *name)
{
	push_refusal(L, name);
	lua_setfield(L, -2, field);
}

// Reading a global that nobody set is a misspelling, not nil.
static int undefined_global(lua_State *L)
{
	Session *session = session_of(L);
	const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : describe(L, 2);
	Names names = {0};
	add_sorted_keys(L, 1, &names);
	spec_error(L, "the variable '%s' is not defined%s", name, did_you_mean(session, name, &names));
}

static void guard_globals(lua_State *L)
{
	lua_pushglobaltable(L);
	lua_newtable(L);
	lua_pushcfunction(L, undefined_global);
	lua_setfield(L, -2, "__index");
	lua_pushboolean(L, false);
	lua_setfield(L, -2, "__metatable");
	lua_setmetatable(L, -2);
	lua_pop(L, 1);
}

static void fix_random(lua_State *L)
{
	lua_getfield(L, -1, "randomseed");
	lua_pushinteger(L, 0);
	lua_pushinteger(L, 0);
	lua_call(L, 2, 0);
	wrap(L, "randomseed", safe_randomseed);
}

void open_safe_library(lua_State *L)
{
	static const luaL_Reg libraries[] = {{"_G", luaopen_base}, {"table", luaopen_table}, {"string", luaopen_string},
		{"math", luaopen_math}, {"utf8", luaopen_utf8}, {"coroutine", luaopen_coroutine}};
	static const char *const forbidden[] = {"os", "io", "debug", "package"};
	static const char *const functions[] = {"dofile", "loadfile", "collectgarbage", "warn"};
	for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++) {
		luaL_requiref(L, libraries[i].name, libraries[i].func, true);
		lua_pop(L, 1);
	}
	for (size_t i = 0; i < sizeof forbidden / sizeof *forbidden; i++)
		forbid_library(L, forbidden[i]);
	lua_pushglobaltable(L);
	for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
		forbid_function(L, functions[i], functions[i]);
	lua_register(L, "tostring", safe_tostring);
	lua_register(L, "print", safe_print);
	wrap(L, "setmetatable", safe_setmetatable);
	wrap(L, "load", safe_load);
	lua_getfield(L, -1, "string");
	wrap(L, "format", safe_format);
	forbid_function(L, "dump", "string.dump");
	lua_getfield(L, -2, "math");
	fix_random(L);
	lua_pop(L, 3);
	open_ordered(L);
	open_modules(L);
	guard_globals(L);
}
